"""What the tests of stage `cla` share: the corpus of marked faces and configs of tiny runs."""

from __future__ import annotations

import pytest
from marked_faces import stage_options, write_corpus, write_normalized

from norface.config import load_config
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.stages.cla_config import ClaConfig


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
