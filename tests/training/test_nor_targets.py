"""Targets of the stage `nor`: which faces are drawn, and what critics say of few of them."""

import numpy as np
import pytest
import torch
from small_nor import SIDE, config_maker

from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.errors import ConfigError, CorpusError
from norface.images import encode_jpeg
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import TargetPool


@pytest.fixture
def make_config(tmp_path):
    """A function that gives a config with small networks, faces and judges, and changes."""
    return config_maker(tmp_path)


def test_what_critics_say_of_few_targets_is_read_once_and_is_what_they_say(make_config, backend):
    few = {"persons": 2, "check_target": False}
    stage = NorStage(make_config(target_pool=few), backend)
    batch = next(stage.batches(0))
    found = stage.know_targets(batch["target_key"])
    expected = stage.judging.read_targets(stage.to_device(batch["target"]))
    assert set(found) == set(expected) == {"perceptual", "identity", "landmarks"}
    for kind in expected:
        torch.testing.assert_close(found[kind], expected[kind], atol=1e-5, rtol=1e-4)
    # Mirrored targets are other pictures, and all faces of a corpus are too many to keep.
    for changes in ({"target_pool": few, "flip": True}, {}):
        assert NorStage(make_config(**changes), backend).know_targets(batch["target_key"]) is None


def test_targets_come_from_the_pool_only(make_config, backend):
    pool = {"subjects": ["synthetic/S2"], "pictures_per_person": 2, "check_target": False}
    config = make_config(target_pool=pool)
    stage = NorStage(config, backend)
    batches = stage.batches(0)
    seen = {key for _ in range(6) for key in next(batches)["target_key"]}
    assert seen == {"synthetic_S2_c_0", "synthetic_S2_c_1"}


def test_faces_that_act_are_no_candidate_targets(make_config, backend, tmp_path, caplog):
    shards = tmp_path / "acting"
    with ShardWriter(shards, side=SIDE) as writer:
        for subject, levels in (("S1", (3.0, 0.0, 1.0)), ("S2", (0.0, 4.0, 0.0)), ("S3", (5.0,))):
            for frame, level in enumerate(levels):
                image = encode_jpeg(np.full((SIDE, SIDE, 3), 9 * frame, np.uint8))
                writer.write(FaceRecord("synthetic", subject, "c", frame, image,
                                        intensity={12: level, 1: 0.0}))  # fmt: skip

    def pool(**values):
        return NorStage(make_config(data={"shards": [str(shards)]}, target_pool=values), backend)

    two = pool(subjects=["synthetic/S1", "synthetic/S2"], pictures_per_person=1).pool
    assert [two.key_of(row) for row in range(len(two))] == ["synthetic_S1_c_1", "synthetic_S2_c_0"]
    said = "target_pool: 2 of 6 faces are left out, they are not at rest, the first being"
    assert f"{said} synthetic_S1_c_0, labelled AU12 at 3.0" in caplog.text
    with pytest.raises(CorpusError, match="synthetic_S2_c_1: is no target, it is labelled AU12"):
        pool(keys=["synthetic_S1_c_1", "synthetic_S2_c_1"])
    with pytest.raises(CorpusError, match="all 1 faces are no targets"):
        pool(subjects=["synthetic/S3"])
    with pytest.raises(CorpusError, match="subjects: synthetic/S3 has no face at rest"):
        pool(subjects=["synthetic/S1", "synthetic/S3"])
    assert len(pool(keys=["synthetic_S3_c_0"], check_target=False).pool) == 1


def test_pool_of_persons_is_drawn_by_the_seed_and_checked(make_config):
    index = make_config().data.open()
    # Noise is no face at rest, so it is taken as it is.
    one = TargetPool(persons=1, check_target=False)
    draws = [tuple(one.select(index, seed).persons) for seed in range(8)]
    assert len(set(draws)) > 1
    assert one.select(index, 3).persons == list(draws[3])
    named = TargetPool(keys=["synthetic_S0_c_3"], check_target=False)
    assert len(named.select(index, 0)) == 1
    with pytest.raises(ConfigError, match="found 4; there are 3 persons"):
        TargetPool(persons=4).select(index, 0)
    with pytest.raises(ValueError, match="exactly one"):
        TargetPool()
