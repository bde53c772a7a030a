"""What is asked of the cluster, and what a wrong setting is told; tests/slurm has a real queue."""

from pathlib import Path

import pytest

from launchers.submit import ClusterConfig, build_executor, main
from norface.config import load_config

pytest.importorskip("submitit")

SHIPPED = Path(__file__).parents[2] / "configs" / "cluster" / "cpu.yaml"


def script_of(config: ClusterConfig) -> str:
    executor = build_executor(config)
    return executor._make_submission_file_text("srun norface", "uid")


def test_a_config_becomes_lines_of_sbatch(tmp_path):
    text = script_of(
        ClusterConfig(
            nodes=4, ranks_per_node=8, gpus_per_node=8, time_min=90, partition="long", logs=tmp_path
        )
    )
    for line in ("nodes=4", "ntasks-per-node=8", "gpus-per-node=8", "time=90", "partition=long"):
        assert f"#SBATCH --{line}\n" in text
    assert "#SBATCH --signal=USR2@180\n" in text
    assert "export NORFACE_WORLD_SIZE=32\n" in text


def test_what_is_not_set_is_left_to_the_cluster(tmp_path):
    text = script_of(ClusterConfig(logs=tmp_path))
    for word in ("partition", "account", "constraint", "gpus"):
        assert word not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nods=2", "--", "train", "nor"], "did you mean 'nodes'?"),
        (["nodes=0", "--", "train", "nor"], "'nodes': found 0"),
        (["nodes=2"], "give a norface verb after --"),
        (["-c", "none.yaml", "--", "train"], "none.yaml: no such config file"),
    ],
)
def test_a_wrong_request_is_one_line_and_2(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_shipped_cluster_file_is_valid():
    assert load_config(ClusterConfig, SHIPPED).nodes == 2
