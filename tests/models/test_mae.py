import math

import numpy as np
import pytest
import torch

from norface.models.mae import (
    MaskedAutoencoder,
    MaskedAutoencoderConfig,
    sine_places,
    to_patches,
    to_picture,
)

TINY = {
    "encoder": {"side": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2},
    "decoder": {"width": 8, "depth": 1, "heads": 2},
}


def build(**changes) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(MaskedAutoencoderConfig.model_validate(TINY | changes))


def draw_orders(count, patches=16):
    return torch.stack([torch.randperm(patches) for _ in range(count)])


def test_default_sizes_are_vit_b16_at_256_and_a_decoder_of_512_by_8_with_a_quarter_seen():
    config = MaskedAutoencoderConfig()
    assert (config.encoder.side, config.encoder.patch, config.encoder.width) == (256, 16, 768)
    assert (config.decoder.width, config.decoder.depth, config.visible) == (512, 8, 64)


def test_patches_are_the_picture_cut_row_by_row_and_come_back():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    patches = to_patches(images, 4)
    for number, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        block = images[1, :, row : row + 4, column : column + 4].permute(1, 2, 0)
        assert torch.equal(patches[1, number], block.flatten())
    assert torch.equal(to_picture(patches, 4), images)


@pytest.mark.parametrize("class_token", [True, False])
def test_with_every_patch_visible_the_encoder_says_what_it_says_unmasked(class_token):
    model = build(encoder=TINY["encoder"] | {"class_token": class_token}).eval()
    images, order = torch.rand(3, 3, 16, 16) * 2 - 1, draw_orders(3)
    tokens = model.encoder.encode_visible(images, order)[:, int(class_token) :]
    expected = model.encoder(images)
    for row in range(3):
        torch.testing.assert_close(tokens[row], expected[row, order[row]], atol=1e-5, rtol=1e-5)


def test_what_is_hidden_cannot_be_seen():
    model = build().eval()
    images, order = torch.rand(2, 3, 16, 16) * 2 - 1, draw_orders(2)
    hidden = order.argsort(1)[:, :, None] >= model.config.visible
    patches = to_patches(images, 4)
    other = to_picture(torch.where(hidden, torch.rand_like(patches), patches), 4)
    assert not torch.equal(other, images)
    assert torch.equal(model(images, order), model(other, order))
    # And what is visible is seen.
    other = to_picture(torch.where(hidden, patches, torch.rand_like(patches)), 4)
    assert not torch.allclose(model(images, order), model(other, order))


def test_predictions_stand_where_their_patches_are():
    """The order within the visible and within the hidden patches changes nothing."""
    model = build().eval()
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    order = draw_orders(1)
    seen, hidden = order[0, :4], order[0, 4:]
    other = torch.cat([seen.flip(0), hidden.flip(0)])[None]
    torch.testing.assert_close(model(images, order), model(images, other), atol=1e-5, rtol=1e-5)


def test_loss_of_a_worked_example_counts_hidden_patches_only():
    model = build(normalize_patches=False)
    images, order = torch.zeros(1, 3, 16, 16), torch.arange(16)[None]
    predicted = torch.zeros(1, 16, 48)
    predicted[:, :4] = 100.0  # visible
    predicted[:, 4] = 2.0
    predicted[:, 5] = 1.0
    assert model.loss(predicted, images, order).item() == pytest.approx((4 + 1) / 12)


def test_normalized_patches_have_mean_0_and_spread_1_and_come_back():
    model = build()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    wanted, mean, spread = model.targets(images)
    values = np.asarray(to_patches(images, 4)[1, 7])
    expected = (values - values.mean()) / math.sqrt(values.var(ddof=1) + 1e-6)
    np.testing.assert_allclose(wanted[1, 7], expected, atol=1e-5)
    torch.testing.assert_close(to_picture(wanted * spread + mean, 4), images)
    assert model.loss(torch.zeros(2, 16, 48), images, draw_orders(2)).item() == pytest.approx(
        47 / 48, rel=1e-3
    )


def test_grid_shows_visible_patches_as_they_are_and_hidden_ones_grey():
    model = build().eval()
    images, order = torch.rand(2, 3, 16, 16) * 2 - 1, draw_orders(2)
    masked, drawn = (to_patches(part, 4) for part in model.show(images, order))
    own = to_patches(images, 4)
    for row in range(2):
        seen, hidden = order[row, :4], order[row, 4:]
        assert torch.equal(masked[row, seen], own[row, seen])
        assert torch.equal(drawn[row, seen], own[row, seen])
        assert (masked[row, hidden] == 0).all()
        assert not torch.isclose(drawn[row, hidden], own[row, hidden]).all(dim=1).any()


def test_positions_are_sines_of_column_and_row_and_do_not_train():
    places = sine_places(8, 3, prefix=1)
    assert (places[0, 0] == 0).all()
    row, column = 2, 1
    rates = [1, 10_000**-0.5]
    expected = [wave(where * r) for where in (column, row) for wave in (math.sin, math.cos)
                for r in rates]  # fmt: skip
    torch.testing.assert_close(places[0, 1 + row * 3 + column], torch.tensor(expected))
    model = build()
    assert torch.equal(model.encoder.vit.pos_embed, sine_places(16, 4, prefix=1))
    assert not model.encoder.vit.pos_embed.requires_grad


def test_checkpointed_blocks_give_the_same_gradients():
    images, order = torch.rand(2, 3, 16, 16) * 2 - 1, draw_orders(2)
    gradients = []
    for recompute in (False, True):
        model = build(encoder=TINY["encoder"] | {"gradient_checkpointing": recompute}).train()
        model.loss(model(images, order), images, order).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_share": 0.99}, "0 would be visible"),
        ({"decoder": {"width": 6, "heads": 2}}, "'.decoder.width' 6: sine positions need"),
        ({"decoder": {"width": 8, "heads": 3}}, "not a multiple of '.decoder.heads' 3"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
