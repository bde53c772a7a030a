"""`norface bench`: tiny runs whose numbers can be counted or bounded without a clock."""

import json

import numpy as np
import pytest
import torch

from norface.bench.epoch import bench_epoch
from norface.bench.index import write_large_index
from norface.bench.loading import bench_loading, write_faces
from norface.bench.memory import measure_alone
from norface.bench.preparing import bench_preparation
from norface.cli.main import main
from norface.data.detection import choose_detector
from norface.data.labels import DETECTION_UNITS
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.images import decode_jpeg, unpack_images
from norface.models.mediapipe import find_task_file


def take(megabytes):
    block = np.ones(megabytes * 2**17)
    return float(block.sum())


@pytest.mark.slow
def test_memory_of_a_function_is_that_of_its_own_process():
    # What this process holds is not counted.
    held = np.ones(2**26)
    small, large = measure_alone(take, 1), measure_alone(take, 256)
    assert large.result == 256 * 2**17 and held.size
    assert 230 < large.peak_mb - small.peak_mb < 280


def test_the_large_index_is_that_of_a_large_corpus(tmp_path):
    write_large_index(tmp_path / "index", 2500)
    index = ShardIndex.open(tmp_path / "index")
    assert len(index) == 2500 and len(index.persons) == 40 and len(index.shard_paths) == 3
    labels = index.labels("au", DETECTION_UNITS["bp4d"])
    assert labels.shape == (2500, 12) and set(np.unique(labels)) == {0, 1}
    assert index.key_of(2499).endswith("_2499")


@pytest.mark.slow
def test_bench_index_prints_seconds_and_memory(capsys):
    assert main(["bench", "index", "--samples", "2000", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["index"]
    assert found["samples"] == 2000 and found["seconds"] > 0
    # An interpreter with pandas and pyarrow, and hardly more.
    assert 50 < found["peak_mb"] < 400


def test_faces_to_measure_with_are_different_and_of_the_asked_size(tmp_path):
    write_faces(tmp_path / "shards", pictures=6, side=32, rendered=2)
    index = ShardIndex.open(tmp_path / "shards")
    pictures = {index.read_pixels(row).tobytes() for row in range(6)}
    assert len(pictures) == 6 and index.side == 32 and len(index.persons) == 2


def test_both_loaders_get_the_same_bytes_and_their_ratio_is_that_of_the_rates(tmp_path):
    write_faces(tmp_path / "shards", pictures=12, side=32, rendered=2)
    rates = bench_loading(tmp_path / "shards", tmp_path / "files", workers=0, rounds=1, batch=4)
    assert rates.ratio == pytest.approx(rates.shards / rates.image_folder)
    index = ShardIndex.open(tmp_path / "shards")
    files = {path.stem: path.read_bytes() for path in (tmp_path / "files").rglob("*.jpg")}
    assert files == {index.key_of(row): index.read_record(row).image for row in range(12)}
    mean = sum(map(len, files.values())) / 12 / 1000
    assert rates.picture_kb == pytest.approx(mean) and rates.pictures == 12


def test_both_loaders_give_the_same_tensor_of_a_picture(tmp_path):
    from torchvision.transforms import functional

    from norface.data.loader import Draw, FaceDataset

    write_faces(tmp_path / "shards", pictures=1, side=32, rendered=1)
    index = ShardIndex.open(tmp_path / "shards")
    ours = unpack_images(FaceDataset(index, side=None, seed=0)[Draw(0, 0, 0)]["image"], "cpu")
    pixels = decode_jpeg(index.read_record(0).image)
    theirs = functional.normalize(functional.to_tensor(pixels), [0.5] * 3, [0.5] * 3)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_an_epoch_repeats_the_pictures_up_to_its_length(tmp_path):
    write_faces(tmp_path / "shards", pictures=5, side=32, rendered=1)
    epoch = bench_epoch(tmp_path / "shards", tmp_path / "epoch", samples=300, batch=10)
    assert epoch.samples == 300 and epoch.last_mb < epoch.first_mb + 50
    index = ShardIndex.open(tmp_path / "epoch")
    assert len(index) == 300 and len(set(index.table["key"])) == 300
    first, again = index.read_pixels(3), index.read_pixels(298)
    np.testing.assert_array_equal(first, again)


@pytest.mark.skipif(find_task_file() is None, reason="needs a .task file")
def test_preparation_stands_beside_its_detector(tmp_path):
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    Image.fromarray(data.astronaut()).save(tmp_path / "face.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    choice = choose_detector("mediapipe")
    rates = bench_preparation(tmp_path, choice, photographs=5, rounds=1)
    assert rates.photographs == 2 and rates.detector == "mediapipe"
    assert rates.ratio == pytest.approx(rates.prepared / rates.bare)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loading", "--batch", "0"], "--batch 0: at least 1 is needed"),
        (["index", "--samples", "-5"], "--samples -5: at least 1 is needed"),
        (["loading", "{root}/gone"], "no shards in this folder"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, words, message):
    assert main(["bench", *(word.format(root=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_too_few_pictures_are_refused(tmp_path):
    write_faces(tmp_path / "shards", pictures=3, side=32, rendered=1)
    with pytest.raises(ConfigError, match="3 pictures are fewer than two batches of 2"):
        bench_loading(tmp_path / "shards", tmp_path / "files", workers=0, rounds=1, batch=2)
