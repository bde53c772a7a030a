"""The small reader as F_nor's encoder."""

import pytest
import torch

from norface.models.face_networks import FaceNetworkConfig, build_face_network
from norface.models.normalizer import Normalizer, NormalizerConfig, load_generator, save_generator
from norface.models.reader_encoder import ReaderEncoder, ReaderEncoderConfig

READER = {"side": 32, "channels": [4, 8, 8], "blocks": [0, 0, 0], "hidden": 8}
TINY = {
    "encoder": {"kind": "reader", "reader": READER, "grid": 8, "width": 16},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}


def build(**changes) -> ReaderEncoder:
    torch.manual_seed(0)
    return ReaderEncoder(ReaderEncoderConfig.model_validate(TINY["encoder"] | changes))


def test_a_token_knows_its_pixels_and_the_whole_face():
    encoder = build().eval()
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    tokens = encoder(image)
    assert tokens.shape == (1, 64, 16)
    # Without what the reader saw, only the token of the changed patch differs (row 2, column 5).
    torch.nn.init.zeros_(encoder.whole[1].weight)
    torch.nn.init.zeros_(encoder.intensity.weight)
    encoder.local[0] = torch.nn.Identity()
    with torch.no_grad():
        encoder.local[1].weight[:, :16] = 0
    other = image.clone()
    other[0, :, 8:12, 20:24] += 0.5
    changed = (encoder(image) - encoder(other)).abs().sum(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [2 * 8 + 5]


def test_pictures_of_any_side_are_resized():
    encoder = build().eval()
    image = torch.rand(2, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(encoder(image), encoder(image[..., ::2, ::2]))


def test_a_larger_picture_gives_its_own_pixels_and_the_reader_a_smaller_one():
    encoder = build(side=64).eval()
    assert (encoder.config.side, encoder.config.patch, encoder.config.reader.side) == (64, 8, 32)
    fine = torch.rand(1, 3, 64, 64) * 2 - 1
    # The same to the reader, which sees means of 2x2 pixels, and not the same to the tokens.
    other = fine.clone()
    other[0, :, 20, 40], other[0, :, 20, 41] = fine[0, :, 20, 41], fine[0, :, 20, 40]
    with torch.no_grad():
        changed = (encoder(fine) - encoder(other)).abs().sum(-1)[0] > 1e-6
        intensities = build(side=64, original="intensity").eval()
        told = intensities.tell_intensity(fine)
        torch.testing.assert_close(intensities.tell_intensity(other), told)
    assert changed.nonzero().flatten().tolist() == [(20 // 8) * 8 + 40 // 8]
    values = TINY | {"encoder": TINY["encoder"] | {"side": 64}}
    values["decoder"] = {"channels": [], "output": "patches"}
    model = Normalizer(NormalizerConfig.model_validate(values)).eval()
    assert model.config.side == 64 and model(fine, fine).shape == (1, 3, 64, 64)


def test_a_side_that_the_grid_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="'.side' 60 is not a multiple of '.grid' 8"):
        build(side=60)


@pytest.mark.parametrize("reader", [None, "small", {"side": "wide"}])
def test_a_reader_that_is_none_is_told_as_such(reader):
    with pytest.raises(ValueError, match="reader"):
        build(reader=reader)


def test_a_frozen_reader_never_changes_and_a_free_one_learns():
    for freeze in (True, False):
        encoder = build(freeze=freeze).train()
        before = {name: value.clone() for name, value in encoder.reader.state_dict().items()}
        encoder(torch.rand(4, 3, 32, 32)).square().mean().backward()
        after = encoder.reader.state_dict()
        # Statistics of batch normalization stay, whatever the batch was.
        assert all(torch.equal(before[name], after[name]) for name in before)
        grads = [parameter.grad is not None for parameter in encoder.reader.trunk.parameters()]
        assert all(grads) != freeze and any(grads) != freeze
        assert encoder.place.grad is not None


def test_grid_that_no_map_has_is_refused():
    with pytest.raises(
        ValueError, match=r"'.grid' 7 is the side of no map; the maps have \[16, 8, 4\]"
    ):
        build(grid=7)


def test_a_generator_file_brings_its_reader_along(tmp_path):
    model = Normalizer(NormalizerConfig.model_validate(TINY)).eval()
    reader = build_face_network(FaceNetworkConfig(**READER, seed=9))
    model.encoder.reader.load_state_dict(reader.state_dict())
    save_generator(model, tmp_path / "generator.safetensors", persons=[])
    found, card = load_generator(tmp_path / "generator.safetensors")
    assert card.architecture == model.config
    faces = torch.rand(2, 2, 3, 32, 32)
    torch.testing.assert_close(found(*faces), model(*faces))


def test_sizes_of_the_decoder_must_fit_the_grid():
    with pytest.raises(ValueError, match="patch' 4"):
        NormalizerConfig.model_validate(TINY | {"decoder": {"channels": [16, 8]}})


def test_with_original_intensity_nothing_but_action_units_passes():
    values = TINY | {"encoder": TINY["encoder"] | {"original": "intensity"}}
    torch.manual_seed(0)
    model = Normalizer(NormalizerConfig.model_validate(values)).eval()
    original, other, target = torch.rand(3, 2, 3, 32, 32) * 2 - 1
    assert not torch.equal(model(original, target), model(other, target))
    # The same reading, by a reader that sees nothing: whatever the picture, the face is the same.
    torch.nn.init.zeros_(model.encoder.reader.intensity.weight)
    assert torch.equal(model(original, target), model(other, target))
    tokens = model.encode_original(original)
    encoder = model.encoder
    level = torch.stack([4 * encoder.reader.intensity.bias @ action for action in encoder.action])
    torch.testing.assert_close(tokens, (level + encoder.place).expand(2, -1, -1))
