"""Typed configuration: precedence, strictness, and errors that say what to do."""

from pathlib import Path
from typing import Literal

import pytest
import yaml
from disks import small_disk
from pydantic import Field

from norface.config import Config, config_hash, load_config, save_config
from norface.errors import ConfigError
from norface.training.stages import load_stage

SHIPPED = sorted(
    path
    for path in (Path(__file__).parents[1] / "configs").glob("*/*.yaml")
    # Accelerate's own format; tests/launchers/test_foreign.py reads these.
    if path.parent.name != "accelerate"
)
SETTINGS = Path(__file__).parents[1] / "configs" / "paper" / "settings.yaml"


class Inner(Config):
    weight: float = 1.0
    "How much it counts."
    kind: Literal["mse", "l2"] = "mse"
    "Which norm."


class Outer(Config):
    name: str
    "A key without a default."
    seed: int = Field(0, ge=0)
    "A bounded number."
    folder: Path | None = None
    "A path or nothing."
    targets: list[str] = []
    "Several words."
    weights: dict[int, float] = {}
    "Numbers by number."
    inner: Inner | None = Inner()
    "A nested part."


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def message(schema, path=None, overrides=()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(schema, path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_command_line_beats_yaml_and_yaml_beats_defaults(tmp_path):
    path = write(tmp_path, "name: a\nseed: 3\ninner: {weight: 2}\n")
    config = load_config(Outer, path, ["seed=5", "inner.kind=l2"])
    assert (config.name, config.seed) == ("a", 5)
    assert config.inner == Inner(weight=2.0, kind="l2")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("name=12", "name", None),
        ("name='12'", "name", "12"),
        ("name=", "name", ""),
        ("folder=runs/a=b", "folder", Path("runs/a=b")),
        ("folder=null", "folder", None),
        ("targets=[a, b]", "targets", ["a", "b"]),
        ("weights={12: 0.5}", "weights", {12: 0.5}),
        ("inner.weight=1e-4", "inner", Inner(weight=1e-4)),
        ("inner=null", "inner", None),
    ],
)
def test_a_value_on_the_command_line_is_read_as_yaml(override, key, value):
    overrides = ["name=x", override]
    if override == "name=12":
        assert "'name': found 12" in message(Outer, overrides=overrides)
        return
    assert getattr(load_config(Outer, overrides=overrides), key) == value


def test_an_unknown_key_names_the_file_the_key_the_nearest_and_all_valid_keys(tmp_path):
    text = message(Outer, write(tmp_path, "name: a\ninner: {wieght: 2}\n"))
    assert "run.yaml" in text
    assert "unknown key 'inner.wieght'; did you mean 'weight'? valid keys: weight, kind" in text


def test_an_unknown_key_unlike_any_other_gets_no_suggestion():
    text = message(Outer, overrides=["name=a", "zzz=1"])
    assert "did you mean" not in text and "valid keys: name, seed" in text


def test_a_wrong_choice_names_what_was_found_and_the_valid_ones():
    text = message(Outer, overrides=["name=a", "inner.kind=l3"])
    assert "'inner.kind': found 'l3'" in text and "'mse'" in text and "'l2'" in text


def test_a_value_out_of_bounds_names_the_bound():
    text = message(Outer, overrides=["name=a", "seed=-1"])
    assert "'seed': found -1" in text and "greater than or equal to 0" in text


def test_a_missing_key_is_named():
    assert "'name' must be set" in message(Outer)


def test_further_problems_are_counted():
    assert "(and 1 more)" in message(Outer, overrides=["seed=-1", "name=a", "zzz=1"])


def test_an_override_without_a_sign_is_refused_with_an_example():
    assert "'seed': expected key=value, for example" in message(Outer, overrides=["seed"])


def test_a_value_that_is_not_yaml_is_refused():
    assert "'targets=[a': the value is not valid yaml" in message(Outer, overrides=["targets=[a"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\n  seed: 1\n", "not valid yaml at line 2"),
        ("- name\n- seed\n", "found a list"),
        ("just words\n", "found a str"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path, text, words):
    found = message(Outer, write(tmp_path, text))
    assert "run.yaml" in found and words in found


def test_files_that_cannot_be_read_are_named(tmp_path):
    assert "no such config file" in message(Outer, tmp_path / "none.yaml")
    assert "cannot be read" in message(Outer, tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00name")
    assert "bytes.yaml" in message(Outer, tmp_path / "bytes.yaml")


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_config(Inner, write(tmp_path, "")) == Inner()


def test_the_resolved_config_comes_back_from_its_file(tmp_path):
    config = load_config(
        Outer, overrides=["name=a", "folder=x/y", "weights={12: 0.5}", "inner.weight=1e-4"]
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(Outer, tmp_path / "config.yaml") == config


def test_the_hash_tells_configs_apart_and_ignores_how_they_were_given(tmp_path):
    path = write(tmp_path, "seed: 3\nname: a\n")
    assert config_hash(load_config(Outer, path)) == config_hash(
        load_config(Outer, overrides=["name=a", "seed=3"])
    )
    assert config_hash(Inner()) != config_hash(Inner(weight=2))


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        Inner().weight = 2.0


def test_a_yaml_file_cannot_construct_python_objects(tmp_path):
    path = write(tmp_path, "name: !!python/object/apply:os.system ['true']\n")
    assert "not valid yaml" in message(Outer, path)


def schema_of(path: Path) -> type[Config]:
    if path.parent.name == "cluster":
        from launchers.submit import ClusterConfig

        return ClusterConfig
    if path.parent.name == "tune":
        from tune.config import SweepConfig

        return SweepConfig
    if path.parent.name == "corpora":
        from norface.data.corpora.emo135 import Emo135Description

        return Emo135Description
    if path.parent.name == "paper":
        from norface.paper.compare import TableSpec

        return TableSpec
    if path.parent.name == "cla" and "cla:" in path.read_text():
        from norface.evaluation.crossval_config import CrossvalConfig

        return CrossvalConfig
    return load_stage(path.parent.name)[0]


@pytest.mark.parametrize(
    "path",
    [path for path in SHIPPED if path != SETTINGS],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_shipped_config_is_valid_for_what_its_folder_names(path):
    schema = schema_of(path)
    # A cross-validation's data is given on the command line, as the head of the file shows.
    given = ["cla.data.shards=[shards]"] if "cla" in schema.model_fields else []
    load_config(schema, path, given)


def test_a_yaml_takes_over_what_it_is_like_and_wins_over_it(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "base.yaml").write_text("name: a\nseed: 3\ninner: {weight: 2, kind: l2}\n")
    (tmp_path / "middle.yaml").write_text("like: far/base.yaml\nname: b\ntargets: [x]\n")
    path = write(tmp_path, "like: middle.yaml\ntargets: [y, z]\ninner: {weight: 5}\n")
    config = load_config(Outer, path, ["seed=4"])
    assert config == Outer(name="b", seed=4, targets=["y", "z"], inner=Inner(weight=5, kind="l2"))
    assert load_config(Outer, write(tmp_path, "like: middle.yaml\ninner: null\n")).inner is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("like: gone.yaml\n", "gone.yaml: no such config file"),
        ("like: run.yaml\n", "run.yaml: 'like': run.yaml is in turn like this file"),
        ("like: 3\n", "run.yaml: 'like': found 3; the path of another yaml is meant"),
        ("like: other.yaml\nname: a\n", "run.yaml: 'seed': found -1"),
    ],
)
def test_what_a_yaml_is_like_must_be_there_and_valid(tmp_path, text, said):
    (tmp_path / "other.yaml").write_text("seed: -1\n")
    assert said in message(Outer, write(tmp_path, text))


@pytest.mark.parametrize("name", yaml.safe_load(SETTINGS.read_text()))
def test_every_setting_of_the_papers_rows_is_one_of_a_cross_validation(name):
    from norface.evaluation.crossval_config import Setting

    values = yaml.safe_load(SETTINGS.read_text())[name]
    # These two name data of the experiment, which takes their place.
    wanted = {key: value for key, value in values.items() if key not in ("set", "features")}
    assert Setting.model_validate(wanted).cla == values.get("cla", {})


def test_a_config_is_written_whole_or_not_at_all(tmp_path):
    with small_disk(tmp_path / "disk", "size=8k") as disk:
        save_config(Outer(name="a"), disk / "config.yaml")
        (disk / "other").write_bytes(bytes(4096))
        with pytest.raises(OSError, match="No space left"):
            save_config(Outer(name="b"), disk / "config.yaml")
        assert sorted(path.name for path in disk.iterdir()) == ["config.yaml", "other"]
        assert load_config(Outer, disk / "config.yaml") == Outer(name="a")


def test_what_stands_beside_a_file_is_not_blamed_on_it(tmp_path):
    path = write(tmp_path, "name: a\ninner: {weight: 2}\n")
    for override in ("seeed=1", "seed=-1", "inner.weight=much", "inner.wait=1", "inner=3"):
        assert message(Outer, path, [override]).startswith("command line: ")
    path = write(tmp_path, "name: a\nseed: -1\n")
    assert message(Outer, path, ["inner.weight=2"]).startswith(f"{path}: 'seed'")
    # The value on the command line is the one that counts, and it is no better.
    assert message(Outer, path, ["seed=-2"]).startswith("command line: 'seed': found -2")
    assert message(Outer, write(tmp_path, "seed: 1\n"), ["seed=2"]).startswith(f"{path}: 'name'")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [("name: a\nseed: 1\nname: b\n", 3, "name"),
     ("name: a\ninner:\n  weight: 1\n  kind: l2\n  weight: 2\n", 5, "weight"),
     ("name: a\ntargets: [{x: 1, x: 2}]\n", 2, "x")],
)  # fmt: skip
def test_a_key_that_comes_twice_is_refused_with_its_line(tmp_path, text, line, key):
    path = write(tmp_path, text)
    assert message(Outer, path) == f"{path}: line {line}: the key '{key}' comes twice"


def test_what_an_anchor_brings_in_may_be_set_again(tmp_path):
    text = "name: a\ninner:\n  <<: {weight: 2, kind: l2}\n  weight: 3\n"
    config = load_config(Outer, write(tmp_path, text))
    assert config.inner == Inner(weight=3, kind="l2")


@pytest.mark.parametrize(
    "path", [p for p in SHIPPED if p.parent.name == "cla" and "synthetic" not in p.name], ids=str
)
def test_the_papers_classifiers_scale_pictures_as_mae_weights_want_them(path):
    """Their headers say to start E_f from such weights, which are refused under another scaling."""
    scaling = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert yaml.safe_load(path.read_text())["cla"]["model"]["vit"] == scaling
    encoder = yaml.safe_load((SETTINGS.parents[1] / "mae" / "vit-b16.yaml").read_text())
    assert encoder["model"]["encoder"] == scaling
