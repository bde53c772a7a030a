"""The bench of F_nor takes the real step, and its operations are those that the step executes."""

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from norface.bench.critics import draw_critics
from norface.bench.normalizer import NormalizerRate, Steps, time_steps, write_config
from norface.cli.main import main
from norface.config import load_config
from norface.critics.arcface import ArcFaceCritic
from norface.critics.base import KINDS, Card
from norface.critics.embedding import EmbeddingCritic
from norface.critics.face_reader import CONTOUR
from norface.critics.vgg import LAST_TWO, VggCritic
from norface.models.expression_embedding import EmbeddingConfig, build_embedding
from norface.models.iresnet import IResNet
from norface.training.backends.base import build_backend
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig

SIDE = 64
NETWORKS = {
    "normalizer": {
        "encoder": {"side": SIDE, "patch": 8, "width": 16, "depth": 1, "heads": 2},
        "merging": {"heads": 2, "blocks": 1},
        "decoder": {"channels": [16, 8, 8, 8], "convolutions": 1},
    },
    "discriminator": {"channels": [8, 8]},
}


class Points(EmbeddingCritic):
    """Numbers as landmarks (N, 17, 2)."""

    contour = CONTOUR

    def read(self, seen):
        return self.network(seen).unflatten(1, (17, 2))


@pytest.fixture(scope="module")
def critics():
    """One of every kind, small: a VGG of two convolutions, an IResNet of four blocks."""
    card = Card(name="small", source="this file", licence="Apache-2.0", input_side=112)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    # Where VggCritic looks for the last two maps.
    before = [nn.Identity() for _ in range(LAST_TWO[0] - 1)]
    layers = nn.Sequential(*before, first, nn.ReLU(), second, nn.ReLU())
    iresnet = IResNet((1, 1, 1, 1), channels=(4, 4, 8, 8), embedding=16).eval()
    made = {
        "identity": ArcFaceCritic("identity", card, iresnet),
        "perceptual": VggCritic("perceptual", card, layers),
        "landmarks": Points("landmarks", card, small_embedding(34)),
    }
    for kind in ("expression", "eyebrow"):
        made[kind] = EmbeddingCritic(kind, card, small_embedding(6))
    return {kind: critic.freeze() for kind, critic in made.items()}


def small_embedding(length):
    config = EmbeddingConfig(length=length, channels=(4, 4, 4, 4), blocks=(0, 0, 0, 0))
    return build_embedding(config).eval()


@pytest.fixture
def make_steps(critics, tmp_path):
    """A function that gives the steps of a small stage in a precision."""

    def make(precision="fp32"):
        config = write_config(tmp_path, precision=precision, batch=3, side=SIDE, **NETWORKS)
        return Steps(NorStage(config, build_backend(config.backend), critics))

    return make


@pytest.fixture
def steps(make_steps):
    return make_steps()


def count_convolution(side, inputs, outputs, kernel):
    return 2 * side**2 * inputs * outputs * kernel**2


def test_the_operations_are_those_that_the_real_step_executes(steps):
    found = steps.count_operations() + steps.count_critics()
    with FlopCounterMode(display=False) as counter:
        steps.train()
    assert found == counter.get_total_flops() > 0


def test_a_critics_operations_are_a_hand_count(steps):
    """Forward on the target, forward and backward on what is judged, nothing for its weights."""
    judging = steps.stage.judging
    judging.critics = {"perceptual": judging.critics["perceptual"]}
    forward = sum(count_convolution(224, inputs, 4, 3) for inputs in (3, 4))
    assert steps.count_critics() == 3 * (3 * forward)


def test_a_step_trains_and_judging_leaves_everything_as_it_is(steps):
    stage = steps.stage
    before = [p.clone() for p in stage.generator.parameters()]
    steps.judge()
    assert all(torch.equal(a, b) for a, b in zip(before, stage.generator.parameters(), strict=True))
    assert all(p.grad is None for c in stage.judging.critics.values() for p in c.parameters())
    steps.train()
    moved = zip(before, stage.generator.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in moved)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shares_are_measured(make_steps, precision):
    rate = time_steps(make_steps(precision), rounds=1)
    assert (rate.precision, rate.batch, rate.side) == (precision, 3, SIDE)
    # How long so small a step takes is chance, and so is the critics' part of that time.
    assert 0 < rate.share < 1 and rate.critics_share > 0
    assert rate.trained_gflop > 0 and rate.critics_gflop > 0 and rate.peak_gib > 0.1
    goal = {"fp32": 0.75, "bf16": 0.65}[precision]
    assert f"goal {goal}" in rate.describe()
    assert NormalizerRate.model_validate(rate.model_dump()) == rate


@pytest.mark.slow
def test_critics_of_the_papers_sizes_judge_faces_of_any_side():
    critics = draw_critics()
    assert set(critics) == set(KINDS)
    sizes = {kind: sum(p.numel() for p in one.parameters()) for kind, one in critics.items()}
    # Published: VGG16's convolutions 14.7 M, IResNet-50 43.6 M, HRNet-W18's landmarks 9.7 M (arXiv
    # 1908.07919, Table 4: 9.3 M with fewer points), ResNet-50 without its classes 23.5 M.
    published = {"perceptual": 14.7e6, "identity": 43.6e6, "landmarks": 9.5e6, "eyebrow": 23.5e6}
    for kind, size in published.items():
        assert sizes[kind] == pytest.approx(size, rel=0.03), kind
    with torch.no_grad():
        found = {kind: one(torch.rand(1, 3, 96, 96) * 2 - 1) for kind, one in critics.items()}
    assert found["landmarks"].shape == (1, 68, 2) and found["identity"].shape == (1, 512)
    assert all(torch.isfinite(f).all() for f in found.values() if isinstance(f, torch.Tensor))


@pytest.mark.slow
def test_the_command_measures_with_the_papers_critics(capsys):
    words = ["bench", "normalizer", "--precision", "fp32", "--json"]
    words += ["--batch", "1", "--side", "64", "--rounds", "1"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["fp32"]
    rate = found["fp32"]
    assert 0 < rate["share"] < 1 and rate["critics_share"] > 0
    # The critics resize to their own sides: at 64x64 they are most of the work.
    assert rate["critics_gflop"] > 5 * rate["trained_gflop"] > 0


def test_the_step_is_that_of_the_shipped_config(tmp_path, pytestconfig):
    shipped = load_config(NorConfig, pytestconfig.rootpath / "configs" / "nor" / "pretrain.yaml")
    ours = write_config(tmp_path, precision="bf16", batch=8, side=256)
    for part in ("losses", "discriminator", "optimizer", "self_pair", "clip_pair"):
        assert getattr(ours, part) == getattr(shipped, part), part
    for part in ("merging", "decoder"):
        assert getattr(ours.normalizer, part) == getattr(shipped.normalizer, part)
    scaling = {"mean", "std"}
    assert ours.normalizer.encoder.model_dump(
        exclude=scaling
    ) == shipped.normalizer.encoder.model_dump(exclude=scaling)
    assert ours.trainer.batch_per_rank == shipped.trainer.batch_per_rank
    assert ours.backend.precision == shipped.backend.precision
