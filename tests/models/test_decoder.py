"""The two outputs of the facial decoder."""

import itertools
import math

import pytest
import torch

from norface.models.decoder import (
    BLOCKS,
    REACH,
    DecoderConfig,
    FacialDecoder,
    PatchDecoder,
    TargetPainter,
)
from norface.models.normalizer import NormalizerConfig

CONFIG = DecoderConfig(channels=[8, 8, 4], convolutions=1, output="target")


def make_maps():
    torch.manual_seed(0)
    return {"painting": torch.randn(1, 8, 8, 8), "finest": torch.randn(1, 4, 16, 16)}


def test_a_fresh_painter_leaves_the_target_but_for_a_hint_of_paint():
    target = torch.rand(1, 3, 32, 32) * 2 - 1
    painted = TargetPainter(CONFIG)(target, **make_maps())
    assert painted.shape == target.shape
    assert (painted - target).abs().max() < 0.15
    assert (painted - target).abs().mean() < 0.03


def test_flow_moves_the_picture_by_units_of_half_the_side():
    painter = TargetPainter(CONFIG)
    target = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        painter.paint.weight.zero_()
        painter.paint.bias[3] = -30.0
        # Two pixels of 32 are 0.125 of half a side; the picture is read from its right.
        painter.flow.bias[0] = math.atanh(0.125 / REACH)
    moved = painter(target, **make_maps())
    torch.testing.assert_close(moved[..., :-2], target[..., 2:], atol=1e-5, rtol=0)


def test_finest_paint_can_say_something_else_at_every_cell_of_the_last_map():
    """Coarse paint of the 4x4 grid's first doubling (8x8) cannot."""
    sharp = {}
    for paint in ("coarse", "finest"):
        torch.manual_seed(0)
        config = CONFIG.model_copy(update={"paint": paint})
        decoder = FacialDecoder(config, width=8, grid=4)
        with torch.no_grad():
            decoder.painter.paint.bias[3] = 30.0
            decoder.painter.paint.weight.mul_(20)
        picture = decoder(
            torch.randn(1, 16, 8), torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, 8)
        ).detach()
        # The side is 32 and the last map 16: what is finer than that is interpolated.
        smooth = torch.nn.functional.interpolate(
            torch.nn.functional.avg_pool2d(picture, 4), (32, 32), mode="bilinear"
        )
        sharp[paint] = ((picture - smooth).square().mean() / picture.var()).item()
    assert sharp["finest"] > 2 * sharp["coarse"]


def test_full_cover_hides_the_target():
    painter = TargetPainter(CONFIG)
    with torch.no_grad():
        painter.paint.weight.zero_()
        painter.paint.bias.copy_(torch.tensor([0.5, -0.5, 0.0, 30.0]))
    painted = painter(torch.rand(1, 3, 32, 32), **make_maps())
    expected = torch.tanh(torch.tensor([0.5, -0.5, 0.0])).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(painted, expected)


def test_the_papers_output_ignores_the_targets_picture():
    decoder = FacialDecoder(DecoderConfig(channels=[8, 8, 4]), width=8, grid=4).eval()
    tokens = torch.randn(2, 16, 8)
    first, second = (
        decoder(tokens, torch.full((2, 3, 16, 16), v), v * tokens) for v in (-1.0, 1.0)
    )
    assert torch.equal(first, second) and first.shape == (2, 3, 16, 16)


def test_a_painter_may_stop_short_of_the_pictures_side_and_a_picture_may_not():
    encoder = {"side": 32, "patch": 8, "width": 8, "depth": 1, "heads": 2}
    values = {"encoder": encoder, "merging": {"heads": 2}}
    short = {"channels": [8, 8, 4]}
    NormalizerConfig.model_validate(values | {"decoder": {**short, "output": "target"}})
    with pytest.raises(ValueError, match="encoder.patch' 8 needs"):
        NormalizerConfig.model_validate(values | {"decoder": short})


def test_each_token_moves_and_paints_its_own_pixels():
    decoder = PatchDecoder(width=4, grid=2, patch=4)
    target = torch.rand(2, 3, 8, 8) * 2 - 1
    tokens = torch.randn(2, 4, 4)
    assert (decoder(tokens, target, tokens) - target).abs().mean() < 0.03
    with torch.no_grad():
        for layer in (decoder.enter, decoder.tell):
            layer.weight.zero_()
        decoder.enter.bias.zero_()
        # Cover of the pixel in row 1, column 2 of the last patch: by the first number of its token.
        # The maps of another place do not know it.
        decoder.enter.weight[3, 0, 7] = 1.0
        decoder.tell.weight[3, 7, 5 * 16 + 1 * 4 + 2] = 10.0
        decoder.tell.bias[..., 2 * 16 : 3 * 16] = 0.5
    tokens = torch.zeros(2, 4, 4)
    tokens[0, 2:, 0] = 10.0
    # What a bare HIDDEN covers, everywhere; and one pixel of the last patch.
    bare = decoder(torch.zeros(2, 4, 4), target, tokens)
    painted = decoder(tokens, target, torch.zeros(2, 4, 4))
    place = torch.zeros(8, 8, dtype=torch.bool)
    place[4 + 1, 4 + 2] = True
    paint = torch.tanh(torch.tensor([0.5, 0.0, 0.0]))
    torch.testing.assert_close(painted[0][:, place].squeeze(), paint)
    assert torch.equal(painted[0][:, ~place], bare[0][:, ~place])
    assert torch.equal(painted[1], bare[1])
    # Of the original's tokens it sees the same place, too.
    with torch.no_grad():
        decoder.enter.weight[3, [0, 4], 7] = torch.tensor([0.0, 1.0])
    assert torch.equal(decoder(torch.zeros(2, 4, 4), target, tokens), painted)


@pytest.mark.parametrize("block", [BLOCKS["coarse"], BLOCKS["fine"]])
def test_patches_pass_from_block_to_block_smoothly(block):
    decoder = PatchDecoder(width=4, grid=2, patch=block, block=block)
    side = 2 * block
    target = torch.rand(1, 3, side, side) * 2 - 1
    with torch.no_grad():
        decoder.tell.weight.zero_()
        decoder.tell.bias[:, 0, 2:5] = 0.5
        decoder.tell.bias[:, 0, 5] = torch.tensor([-10.0, -10.0, -10.0, 10.0])
    painted = decoder(torch.zeros(1, 4, 4), target, torch.zeros(1, 4, 4))
    # Pixel x lies at (x + 1/2) / block - 1/2 between the two blocks' centres, at 0 and 1.
    for row, column in itertools.product(range(side), repeat=2):
        share = [min(max((x + 0.5) / block - 0.5, 0), 1) for x in (row, column)]
        cover = torch.sigmoid(torch.tensor(-10 + 20 * share[0] * share[1]))
        expected = (1 - cover) * target[0, :, row, column] + cover * torch.tanh(torch.tensor(0.5))
        torch.testing.assert_close(painted[0, :, row, column], expected)


def test_fine_blocks_are_a_quarter_of_the_pixels_and_for_patches_only():
    finest, fine = (PatchDecoder(width=4, grid=2, patch=4, block=block) for block in (1, 2))
    assert finest.tell.weight.shape[2] == 6 * 16 and fine.tell.weight.shape[2] == 6 * 4
    with pytest.raises(ValueError, match="'.paint' fine is for '.output' patches"):
        DecoderConfig(paint="fine")


def test_patches_have_no_channels_and_the_other_outputs_have():
    with pytest.raises(ValueError, match="'.channels' is \\[\\] for '.output' patches"):
        DecoderConfig(output="patches")
    with pytest.raises(ValueError, match="not empty for any other"):
        DecoderConfig(channels=[])
