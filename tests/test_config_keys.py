"""Errors of a config name keys as the user wrote them, in full, however deep the check is."""

import pytest

from norface.config import load_config
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config
from norface.paper.config import PaperConfig
from norface.training.stages.nor_config import NorConfig
from tune.config import SweepConfig

NOR = ["data.shards=[x]", "target_pool.persons=1"]
PLACE = ["experiments.bp4d.shards=[x]"]
SWEEP = ["name=s", "stage=nor", "base=b", "space.losses.rec=[1, 2]"]


def message(schema, words) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(schema, None, words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("schema", "words", "said"),
    [
        (NorConfig, [*NOR, "normalizer.decoder.channels=[8]"],
         "'normalizer.decoder.channels' has 1 entries, which doubles the token grid 0 times;"
         " 'normalizer.encoder.patch' 16 needs"),
        (NorConfig, [*NOR, "normalizer.decoder.channels=[]"],
         "'normalizer.decoder.channels' is [] for 'normalizer.decoder.output' patches"),
        (NorConfig, [*NOR, "normalizer.encoder.heads=5"],
         "'normalizer.encoder.width' 768 is not a multiple of 'normalizer.encoder.heads' 5"),
        (NorConfig, [*NOR, "normalizer.encoder={kind: reader, width: 6}"],
         "'normalizer.encoder.width' 6 is not a multiple of 4"),
        (NorConfig, [*NOR, "self_pair=0.7", "clip_pair=0.7"],
         "'self_pair' 0.7 + 'clip_pair' 0.7 is more than 1"),
        (NorConfig, [*NOR, "data.weights=[1, 1]"],
         "'data.weights' has 2 numbers, 'data.shards' 1 folders"),
        (NorConfig, [*NOR, "backend.zero_stage=1"],
         "'backend.zero_stage': only for 'backend.kind' deepspeed"),
        (CrossvalConfig, ["cla.data.shards=[x]", "cla.backend.zero_stage=1"],
         "'cla.backend.zero_stage': only for 'cla.backend.kind' deepspeed"),
        (CrossvalConfig, ["cla.data.shards=[x]", "cla.model.moe={experts: 2, top_k: 3}"],
         "'cla.model.moe.top_k' 3 is more than 'cla.model.moe.experts' 2"),
        (SweepConfig, SWEEP[:3] + ["space.losses.rec={uniform: [1, 2]}"],
         "'budget.trials' must be set: 'space.losses.rec' is drawn"),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together_are_named_in_full(schema, words, said):
    assert message(schema, words).startswith(f"command line: {said}")


@pytest.mark.parametrize(
    ("schema", "words", "said"),
    [
        (NorConfig, [*NOR, "encoder_weights=-1"], "'encoder_weights': found -1;"),
        (NorConfig, [*NOR, "data.shards=[x, 3]"], "'data.shards.1': found 3;"),
        (NorConfig, [*NOR, "normalizer.encoder={kind: reader, reader: {side: x}}"],
         "'normalizer.encoder.reader.side': found 'x';"),
        (NorConfig, [*NOR, "normalizer.encoder={kind: reader, weight: 6}"],
         "unknown key 'normalizer.encoder.weight'; valid keys: kind, reader, side, grid"),
        (PaperConfig, ["experiments.bp4d.shards=3"], "'experiments.bp4d.shards': found 3;"),
        (PaperConfig, [*PLACE, "experiments.bp4d.sets.norface=[x, 3]"],
         "'experiments.bp4d.sets.norface.1': found 3;"),
        (NorConfig, [*NOR, "normalizer.encoder.kind=vitt"],
         "'normalizer.encoder.kind': found 'vitt'; expected one of 'vit', 'reader'"),
        (NorConfig, [*NOR, "normalizer.encoder=3"], "'normalizer.encoder': found 3;"),
        (SweepConfig, [*SWEEP, "scheduler.kind=fast"],
         "'scheduler.kind': found 'fast'; expected one of 'none', 'asha', 'pbt'"),
        (SweepConfig, [*SWEEP, "scheduler={grace: 3}"], "'scheduler.kind' must be set"),
    ],
)  # fmt: skip
def test_a_key_is_named_without_the_tags_of_what_may_stand_there(schema, words, said):
    assert message(schema, words).startswith(f"command line: {said}")


def test_a_file_is_named_with_keys_of_it_that_do_not_go_together(tmp_path):
    path = tmp_path / "nor.yaml"
    path.write_text("data: {shards: [x]}\nbackend: {static_graph: true, kind: deepspeed}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(NorConfig, path, ["seed=1"])
    assert str(caught.value).startswith(f"{path}: 'backend.static_graph': a promise")


def test_a_change_of_one_setting_is_named_below_it():
    config = load_config(
        CrossvalConfig, None, ["cla.data.shards=[x]", "settings.a.cla.model.moe.top_k=9"]
    )
    with pytest.raises(ConfigError) as caught:
        fold_config(config, FoldTask("a", 0, "test=part1"))
    assert str(caught.value) == (
        "'settings.a.cla.model.moe.top_k' 9 is more than 'settings.a.cla.model.moe.experts' 4"
    )
