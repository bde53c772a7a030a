import pytest
import torch
from torch import nn

from norface.models.cost import add_costs, measure_cost, tabulate_costs
from norface.models.normalizer import Normalizer, NormalizerConfig

TINY = {
    "encoder": {"side": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1},
}


def test_cost_of_a_worked_example():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    network[2].bias.requires_grad_(False)
    cost = measure_cost("small", network, (3, 4, 4))
    assert cost.parameters == 3 * 8 * 9 + 8 + 8 * 16 * 5 + 5
    assert cost.trained == cost.parameters - 5
    forward = 2 * 16 * (3 * 8 * 9) + 2 * 8 * 16 * 5
    # Backwards: as much for the inputs, and as much again for the weights.
    assert (cost.forward, cost.backward) == (forward, 2 * forward)


def test_counting_leaves_the_network_as_it_is():
    network = Normalizer(NormalizerConfig.model_validate(TINY)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure_cost("F_nor", network, (3, 16, 16), (3, 16, 16))
    assert network.training and all(p.grad is None for p in network.parameters())
    for name, tensor in network.state_dict().items():
        assert tensor.device.type == "cpu" and torch.equal(tensor, before[name])


def test_parts_of_the_generator_add_up_to_the_whole():
    network = Normalizer(NormalizerConfig.model_validate(TINY)).train()
    encoder = measure_cost("E_s", network.encoder, (3, 16, 16))
    merging = measure_cost("EMM", network.merging, (16, 16), (16, 16))
    decoder = measure_cost("D_f", network.decoder, (16, 16), (3, 16, 16), (16, 16))
    whole = measure_cost("F_nor", network, (3, 16, 16), (3, 16, 16))
    added = add_costs("F_nor", [encoder, encoder, merging, decoder])
    assert (added.parameters, added.trained, added.forward) == (
        whole.parameters, whole.trained, whole.forward,
    )  # fmt: skip
    assert added.backward == pytest.approx(whole.backward, rel=0.01)


def test_checkpointing_costs_a_second_forward_pass_of_the_blocks():
    network = Normalizer(NormalizerConfig.model_validate(TINY)).train()
    plain = measure_cost("F_nor", network, (3, 16, 16), (3, 16, 16))
    network.set_gradient_checkpointing(True)
    again = measure_cost("F_nor", network, (3, 16, 16), (3, 16, 16))
    assert again.forward == plain.forward
    # Patch embedding and cross-attention are not computed again.
    assert 0.4 * plain.forward < again.backward - plain.backward < plain.forward


def test_table_is_in_millions_and_billions():
    cost = measure_cost("a network", nn.Linear(1000, 1000), (1000,))
    head, line = tabulate_costs([cost]).splitlines()
    assert head.split() == ["network", "M", "param.", "trained", "GFLOP", "fwd", "bwd"]
    assert line.split() == ["a", "network", "1.00", "1.00", "0.002", "0.004"]
