"""Steps of the stages and critics keep to the backend's device, where that is not the CPU."""

import pytest
import torch
from pretended_gpu import GPU, PretendedBackend, PretendedGPU, skip_backward
from tiny_stages import load_tiny, write_material

from norface.bench.critics import draw_critics
from norface.critics.base import CriticsConfig, build_critics
from norface.models.mediapipe import find_task_file
from norface.models.moe import MixtureOfExperts


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("nor", []),
        ("nor", ["discriminator.condition=pair", "losses.eye=1"]),
        ("mae", []),
        ("cla", []),
        ("cla", ["model.moe.experts=0"]),
    ],
)
def test_a_step_mixes_no_devices(material, tmp_path, monkeypatch, kind, changes):
    stage_class, config = load_tiny(kind, material, tmp_path, *changes)
    backend, gpu = PretendedBackend(config.backend), PretendedGPU()
    stage = stage_class(config, backend)
    batch = next(iter(stage.batches(0)))
    gpu.take(stage)
    backend.device = GPU
    skip_backward(monkeypatch)
    if kind == "nor":
        stage.judging.checked = True  # asks once for numbers
    for module in getattr(stage, "bare", torch.nn.Module()).modules():
        if isinstance(module, MixtureOfExperts):
            module.every_expert = True  # counting an expert's rows asks for numbers
    with gpu.mode:
        found = stage.train_batch(batch, 1)
    assert found.pop("lr").device.type == "cpu", "the rate is known without the GPU"
    assert found and {value.device for value in found.values()} == {GPU}
    assert "grad_share/exp" in found or kind != "nor"


def list_critics():
    """Every kind of critic that needs nobody's files."""
    own = {kind: {"source": "synthetic"} for kind in CriticsConfig.model_fields}
    found = [*draw_critics().values(), *build_critics(CriticsConfig.model_validate(own)).values()]
    if find_task_file() is not None:
        mesh = dict.fromkeys(("landmarks", "expression", "eyebrow"), {"source": "mediapipe"})
        found += build_critics(CriticsConfig.model_validate(mesh)).values()
    return found


def test_critics_answer_on_the_device_of_their_weights():
    gpu = PretendedGPU()
    for critic in list_critics():
        gpu.take(critic)
        with gpu.mode:
            answer = critic(torch.zeros(2, 3, 64, 64, device=GPU))
        answers = answer if isinstance(answer, list | tuple) else [answer]
        assert {one.device for one in answers} == {GPU}, critic


def test_the_pretended_gpu_tells_of_a_tensor_that_was_left_behind():
    class Forgetful(torch.nn.Linear):
        scale = torch.ones(3)

        def forward(self, x):
            return super().forward(x) * self.scale

    gpu, network = PretendedGPU(), Forgetful(2, 3)
    gpu.take(network)
    with gpu.mode, pytest.raises(RuntimeError, match="device"):
        network(torch.zeros(1, 2, device=GPU))
