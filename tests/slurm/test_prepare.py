"""`sbatch --array=... slurm/prepare.sh` on two real nodes: parts, a lost node, the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from norface.cli.main import main
from norface.models.mediapipe import find_task_file

data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
pytest.importorskip("tflite", reason="needs tflite (extra faces)")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(find_task_file() is None, reason="needs a .task file"),
]

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "prepare.sh")
OPTIONS = ("--detector", "mediapipe", "--side", "64", "--samples-per-shard", "5")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with photographs of which one is damaged, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("prepare")
    (folder / "photos").mkdir()
    portrait = Image.fromarray(data.astronaut()).crop((80, 0, 380, 300))
    for number in range(40):
        portrait.rotate(number - 20).save(folder / "photos" / f"p{number:02d}.png")
    (folder / "photos" / "p10b.jpg").write_bytes(b"damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["prepare", "folder", "photos", "whole", *OPTIONS]) == 0
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def submit(cluster, workplace: Path, out: str, *options: str) -> str:
    return cluster.submit(*options, SCRIPT, "folder", "photos", out, *OPTIONS, cwd=workplace)


def all_states(cluster, job: str) -> list[str]:
    return cluster.call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()


def test_an_array_on_two_nodes_ends_in_the_bytes_of_one_process(cluster, workplace):
    job = submit(cluster, workplace, "array", "--array=0-3", "--cpus-per-task=1")
    after = submit(cluster, workplace, "array", f"--dependency=afterany:{job}")
    assert cluster.wait_for(after) == "COMPLETED", cluster.report(after)
    assert all_states(cluster, job) == ["COMPLETED"] * 4
    assert "was finished before" in cluster.log(after)
    assert digests(workplace / "array") == digests(workplace / "whole")


def test_a_job_after_the_array_does_what_a_lost_task_left(cluster, workplace):
    job = submit(cluster, workplace, "lost", "--array=0-1", "--no-requeue")
    # It has not even imported the program when it is killed.
    cluster.wait_for(f"{job}_1", "RUNNING")
    cluster.call("scancel", "--signal=KILL", "--full", f"{job}_1")
    after = submit(cluster, workplace, "lost", f"--dependency=afterany:{job}")
    assert cluster.wait_for(after, timeout_s=240) == "COMPLETED", cluster.report(after)
    assert all_states(cluster, f"{job}_1") != ["COMPLETED"]
    assert "faces aligned at side 64 in lost" in cluster.log(after)
    assert digests(workplace / "lost") == digests(workplace / "whole")


def test_a_broken_range_and_too_few_arguments_are_one_line(cluster, workplace):
    job = submit(cluster, workplace, "broken", "--array=0,2")
    few = cluster.submit(SCRIPT, "folder", cwd=workplace)
    assert cluster.wait_for(few) == "FAILED"
    assert "expected CORPUS ROOT OUT, found: folder" in cluster.log(few)
    cluster.wait_until(lambda: all_states(cluster, job) == ["FAILED"] * 2, "the array", job=job)
    assert not (workplace / "broken").exists()
