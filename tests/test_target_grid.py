"""`norface targets`, from the command line."""

import json

import numpy as np
import pytest
import torch

from norface.cli.main import main
from norface.data.shards import ShardIndex
from norface.images import read_photo, to_image, to_pixels, write_png
from norface.models.normalizer import Normalizer, NormalizerConfig, load_generator, save_generator
from norface.synthetic.corpus import write_corpus

TINY = {
    "encoder": {"side": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets") / "shards"
    return write_corpus(folder, pool="folds", subjects=3, frames=10, side=16)


def test_candidates_are_listed_checked_and_seen(shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["targets", "choose", str(shards), "--out", str(out)]) == 0
    keys = [one["key"] for one in json.loads((out / "candidates.json").read_text())]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(keys)]] == keys
    index = ShardIndex.open(shards)
    best = index.read_pixels(index.row_of(keys[0]))
    np.testing.assert_array_equal(read_photo(out / "candidates.png")[2:18, 2:18], best)
    active = index.key_of(int((index.labels("intensity", (12, 25)).max(axis=1)).argmax()))
    assert main(["targets", "check", "--shards", str(shards), *keys]) == 0
    capsys.readouterr()
    assert main(["targets", "check", "--shards", str(shards), keys[0], active]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{keys[0]}: can be a target" and "it is labelled AU" in said[1]


def test_the_grid_shows_every_original_on_every_target(shards, tmp_path, capsys):
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    save_generator(Normalizer(NormalizerConfig.model_validate(TINY)), path, persons=[])
    rng = np.random.default_rng(0)
    targets = [rng.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(2)]
    names = [str(tmp_path / f"t{number}.png") for number in range(2)]
    for name, pixels in zip(names, targets, strict=True):
        write_png(name, pixels)
    words = ["targets", "grid", str(shards), *names, "--generator", str(path), "--rows", "3"]
    assert main([*words, "--out", str(tmp_path / "grid.png")]) == 0
    sheet = read_photo(tmp_path / "grid.png")
    assert sheet.shape == (4 * 18 + 2, 3 * 18 + 2, 3)
    cell = lambda row, column: sheet[2 + 18 * row :, 2 + 18 * column :][:16, :16]
    np.testing.assert_array_equal(cell(0, 2), targets[1])
    model, _ = load_generator(path)
    with torch.no_grad():
        expected = model(to_image(cell(2, 0))[None], to_image(targets[1])[None])
    apart = to_pixels(expected)[0].astype(int) - cell(2, 2)
    assert np.abs(apart).max() <= 1
    assert main([*words, "--out", str(tmp_path / "grid.jpg")]) == 2
    write_png(tmp_path / "wide.png", np.zeros((16, 20, 3), np.uint8))
    assert main([*words[:3], str(tmp_path / "wide.png"), *words[4:], "--out", "grid.png"]) == 2
    assert "is 20x16; a target must be aligned" in capsys.readouterr().err
