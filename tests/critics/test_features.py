"""Features of every face in a file, as F_cla and Table 9 read it."""

import numpy as np
import pytest
import torch

from norface.cli.main import main
from norface.critics.base import CriticsConfig, build_critics
from norface.critics.features import BATCH
from norface.data.shards import ShardIndex
from norface.data.streams import read_features
from norface.images import to_image
from norface.synthetic.corpus import write_corpus

PACKAGED = ["critics.expression.source=synthetic", "critics.eyebrow.source=synthetic"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """More faces than one batch."""
    folder = tmp_path_factory.mktemp("features") / "shards"
    return write_corpus(folder, pool="folds", subjects=9, frames=8, side=64)


def test_every_key_has_what_the_critics_say_of_its_face(shards, tmp_path, capsys):
    out = tmp_path / "new" / "features.npz"
    words = ["critics", "features", f"data.shards=[{shards}]", *PACKAGED, "--out", str(out)]
    assert main(words) == 0
    assert "20 features of 72 faces" in capsys.readouterr().out
    index = ShardIndex.open(shards)
    assert len(index) > BATCH
    rows = [71, 3, 64]
    found = read_features(out, [index.key_of(row) for row in rows])
    named = dict.fromkeys(("expression", "eyebrow"), {"source": "synthetic"})
    critics = build_critics(CriticsConfig.model_validate(named))
    images = to_image(np.stack([index.read_pixels(row) for row in rows]))
    with torch.no_grad():
        expected = torch.cat([critics["expression"](images), critics["eyebrow"](images)], dim=1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--out: must be set"),
        (["--out", "features.csv", *PACKAGED], "features.csv: its name must end with .npz"),
        (["--out", "f.npz"], "critics.expression, critics.eyebrow: neither is set"),
        (["--out", "f.npz", "data.shards=[]"], "data.shards: must be set"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    shards, tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    assert main(["critics", "features", f"data.shards=[{shards}]", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line and not list(tmp_path.iterdir())
