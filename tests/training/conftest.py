"""What the tests of training share: nothing left open, and stage `cla`'s corpus and configs."""

from __future__ import annotations

import sys

import pytest
from marked_faces import stage_options, write_corpus, write_normalized

from norface.config import load_config
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.stages.cla_config import ClaConfig


@pytest.fixture(autouse=True)
def forgotten_backend():
    """What Accelerate knows of one process is not for the ranks that a later test forks."""
    yield
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    shards = write_corpus(folder / "shards")
    write_normalized(shards, folder / "normalized")
    return folder


@pytest.fixture
def backend():
    made = build_backend(BackendConfig(device="cpu"))
    yield made
    made.close()


@pytest.fixture
def make_config(corpus, tmp_path):
    def make(*overrides: str) -> ClaConfig:
        options = stage_options(corpus / "shards", tmp_path)
        return load_config(ClaConfig, None, [*options, *overrides])

    return make
