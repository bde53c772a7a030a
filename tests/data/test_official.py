"""The fold of a corpus's official parts."""

import numpy as np
import pytest

from norface.config import load_config
from norface.data.official import official_fold
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError, CorpusError
from norface.images import encode_jpeg

JPEG = encode_jpeg(np.full((16, 16, 3), 90, np.uint8))


@pytest.fixture
def make_index(tmp_path):
    def make(samples):
        with ShardWriter(tmp_path / "shards", side=16) as writer:
            for number, (subject, split) in enumerate(samples):
                emotion = "fear" if number % 2 else "anger"
                writer.write(
                    FaceRecord(
                        "rafdb", subject, "basic", number, JPEG, emotion=emotion, split=split
                    )
                )
        return ShardIndex.open(tmp_path / "shards")

    return make


OFFICIAL = [*((f"train-{n}", "train") for n in range(20)), ("test-1", "test"), ("test-2", "test")]


def test_the_test_part_is_whole_and_validation_comes_out_of_train(make_index):
    fold = official_fold(make_index(OFFICIAL), seed=0, validation_share=0.15)
    assert fold.name == "test=test"
    assert fold.test == [("rafdb", "test-1"), ("rafdb", "test-2")]
    assert len(fold.validation) == 3 and len(fold.train) == 17
    assert sorted(fold.train + fold.validation) == sorted(
        ("rafdb", f"train-{n}") for n in range(20)
    )


def test_validation_is_seeded_and_can_be_none(make_index):
    index = make_index(OFFICIAL)
    chosen = [official_fold(index, seed=s, validation_share=0.3).validation for s in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert official_fold(index, seed=0, validation_share=0).validation == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([("a", "train"), ("b", "train")], "no sample of the split 'test', there are: train"),
        ([("a", ""), ("b", "")], "no sample of the split 'train', there are: none"),
        ([("a", "train"), ("b", "test"), ("a", "test")], "rafdb a is in the splits 'train' and"),
    ],
)
def test_shards_without_official_parts_are_refused(make_index, samples, message):
    with pytest.raises(CorpusError, match=message):
        official_fold(make_index(samples), seed=0, validation_share=0.15)


def test_samples_of_other_parts_are_left_out_and_said(make_index, caplog):
    fold = official_fold(make_index([*OFFICIAL, ("x", "")]), seed=0, validation_share=0.15)
    assert ("rafdb", "x") not in fold.train + fold.validation + fold.test
    assert "1 subjects of split '' are in no official part and are left out: rafdb x" in caplog.text


def test_the_classifier_finds_the_fold_by_name(make_index):
    from norface.training.stages.cla import choose_fold
    from norface.training.stages.cla_config import ClaDataConfig

    index = make_index(OFFICIAL)
    words = [f"shards=[{index.folders[0]}]", "folds=official"]
    data = load_config(ClaDataConfig, overrides=[*words, "fold='test=test'", "seed=2"])
    assert choose_fold(data, index) == official_fold(index, seed=2, validation_share=0.15)
    with pytest.raises(ConfigError, match="found 'test=part1'; there are: test=test"):
        choose_fold(load_config(ClaDataConfig, overrides=words), index)
