"""The shipped configs of F_nor: what they share, agree on, and say where files are missing."""

from pathlib import Path

import pytest
from small_nor import write_faces

from norface.cli.main import main
from norface.config import load_config
from norface.critics.base import KINDS
from norface.data.fold_choice import FoldChoice
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.losses.weighted import LossWeights
from norface.training.stages.cla_folds import name_folds
from norface.training.stages.nor_config import NorConfig

CONFIGS = Path(__file__).parents[2] / "configs"
CORPORA = ("bp4d", "bp4dplus", "disfa", "rafdb", "affectnet")
"Those that the paper fine-tunes on (section 4)."


@pytest.fixture(scope="module")
def pretrain():
    return load_config(NorConfig, CONFIGS / "nor" / "pretrain.yaml")


def test_pre_training_has_the_papers_whole_loss_and_a_critic_for_each_term(pretrain):
    assert pretrain.losses == LossWeights(
        adv=1, rec=10, perc=5, id=10, lm=5000, exp=5000, eye=10
    )  # fmt: skip
    assert all(getattr(pretrain.critics, kind) is not None for kind in KINDS)


@pytest.mark.parametrize("corpus", CORPORA)
def test_fine_tuning_goes_on_with_what_pre_training_had_on_the_folds_of_the_classifier(
    pretrain, corpus
):
    config = load_config(NorConfig, CONFIGS / "nor" / f"finetune-{corpus}.yaml")
    for part in ("normalizer", "discriminator", "critics", "losses", "optimizer", "backend"):
        assert getattr(config, part) == getattr(pretrain, part), part
    assert config.generator == Path("runs", pretrain.name, "generator.safetensors")
    assert config.fold.fold in name_folds(config.fold)
    cla = load_config(
        CrossvalConfig, CONFIGS / "cla" / f"{corpus}.yaml", [f"cla.data.shards=[shards/{corpus}]"]
    ).cla
    assert cla.data.shards == config.data.shards
    for name in set(FoldChoice.model_fields) - {"fold"}:
        assert getattr(config.fold, name) == getattr(cla.data, name), name
    everybody = load_config(NorConfig, CONFIGS / "nor" / f"finetune-{corpus}.yaml", ["fold=null"])
    assert everybody.fold is None


def test_without_weight_files_one_line_names_each_and_where_to_get_it(tmp_path, capsys):
    shards = write_faces(tmp_path / "faces")
    words = ["train", "nor", "-c", str(CONFIGS / "nor" / "pretrain.yaml"), f"root={tmp_path}",
             f"data.shards=[{shards}]", "data.workers=0", "tracking.mlflow=false",
             "critics.landmarks={source: hrnet, weights: gone.pth}"]  # fmt: skip
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in (
        "critics.perceptual: weights/vgg16.safetensors: no weights", "losses.perc=null",
        "critics.identity: weights/backbone.pt: no weights", "deepinsight/insightface",
        "critics.landmarks: gone.pth: no weights", "HRNet-Facial-Landmark-Detection",
    ):  # fmt: skip
        assert part in error, part
    # A critic whose loss is null is not missed.
    assert main([*words, "losses={perc: null, lm: null}"]) == 2
    error = capsys.readouterr().err
    assert "critics.identity" in error
    assert "critics.perceptual" not in error and "critics.landmarks" not in error


@pytest.mark.parametrize(
    "words", ["losses.adv=0 adversarial_start_step=0", "losses.adv=1 adversarial_start_step=5"]
)
def test_losses_that_train_nothing_in_the_first_step_are_refused(words):
    nothing = [f"losses.{term}=null" for term in ("rec", "perc", "id", "lm", "exp", "eye")]
    with pytest.raises(ConfigError, match="'losses': no term has a weight above 0 from the first"):
        load_config(NorConfig, None, ["data.shards=[x]", *nothing, *words.split()])
    words = words.replace("start_step=5", "start_step=0").replace("adv=0", "adv=1")
    load_config(NorConfig, None, ["data.shards=[x]", *nothing, *words.split()])


def test_a_truth_for_the_grids_that_is_not_there_is_told_at_the_start(tmp_path, capsys):
    shards = write_faces(tmp_path / "faces")
    words = ["train", "nor", f"root={tmp_path}", f"data.shards=[{shards}]", "backend.device=cpu",
             "losses={perc: null, id: null, lm: null, exp: null, eye: null}",
             "normalizer.encoder={side: 32, patch: 8, width: 8, depth: 1, heads: 2}",
             "normalizer.merging={heads: 2, blocks: 0}", "discriminator.channels=[4]",
             "normalizer.decoder={channels: [8, 4, 4, 4], convolutions: 1}",
             "tracking.mlflow=false", f"samples.truth={tmp_path / 'gone'}"]  # fmt: skip
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / "gone") in error
    assert not (tmp_path / "nor").exists()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("optimizer.betas=[2, 0.9]", "found 2; input should be less than 1"),
        ("losses.exp=.inf", "'losses.exp': found .*finite number"),
        ("target_pool.keys=[]", "target_pool.keys.*at least 1 item"),
        ("target_pool.subjects=[]", "target_pool.subjects.*at least 1 item"),
        ("discriminator.channels=[4, 4, 4, 4, 4, 4, 4, 4, 4]",
         "'discriminator.channels': 9 entries halve the side as often; 256 pixels take 8 at most"),
    ],
)  # fmt: skip
def test_sizes_and_lists_that_cannot_be_are_refused_by_their_key(word, told):
    with pytest.raises(ConfigError, match=told) as caught:
        load_config(NorConfig, None, ["data.shards=[x]", word])
    assert "\n" not in str(caught.value)


def test_a_target_that_is_not_among_the_faces_is_named_with_its_key(tmp_path):
    pool = load_config(NorConfig, None, ["data.shards=[x]", "target_pool.keys=[nope]"]).target_pool
    index = ShardIndex.open(write_faces(tmp_path / "faces"))
    with pytest.raises(CorpusError, match="target_pool.keys: .*first nope; name pictures of data"):
        pool.select(index, 0)
