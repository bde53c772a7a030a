import pytest
import torch
from safetensors.torch import save_file

from norface.errors import WeightsError
from norface.models.normalizer import Normalizer, NormalizerConfig, load_generator, save_generator

TINY = {
    "encoder": {"side": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}
PERSONS = [("bp4d", "F002"), ("bp4d", "F001")]


def build(**changes) -> Normalizer:
    torch.manual_seed(0)
    return Normalizer(NormalizerConfig.model_validate(TINY | changes))


def test_two_faces_become_one_picture_in_range():
    original, target = torch.rand(2, 3, 3, 16, 16) * 2 - 1
    normalized = build()(original, target)
    assert normalized.shape == (3, 3, 16, 16)
    assert normalized.abs().max() <= 1


def test_encoding_apart_gives_what_the_whole_network_gives():
    model = build().eval()
    original, target = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    apart = model.merge_decode(model.encode(original), model.encode(target), target)
    torch.testing.assert_close(apart, model(original, target))


def test_class_token_is_dropped():
    assert build().encode(torch.zeros(2, 3, 16, 16)).shape == (2, 16, 16)


def test_encoder_applies_the_mean_and_std_that_its_weights_expect():
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    model = build(encoder=TINY["encoder"] | imagenet)
    seen = []
    model.encoder.vit.patch_embed.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    model.encode(torch.ones(1, 3, 16, 16))
    # White is 1 on the scale 0..1.
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


@pytest.mark.parametrize("upsampling", ["nearest", "shuffle"])
def test_every_doubling_and_both_upsamplings_reach_the_side(upsampling):
    decoder = {"channels": [16, 8, 8], "upsampling": upsampling}
    assert build(decoder=decoder)(*torch.zeros(2, 1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_decoder_that_misses_the_side_is_refused():
    with pytest.raises(ValueError, match="patch' 4"):
        NormalizerConfig.model_validate(TINY | {"decoder": {"channels": [16, 8]}})


def test_saved_generator_comes_back_with_its_card(tmp_path):
    model = build()
    save_generator(model, tmp_path / "generator.safetensors", persons=PERSONS, images=640)
    loaded, card = load_generator(tmp_path / "generator.safetensors")
    faces = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(loaded(*faces), model.eval()(*faces), rtol=0, atol=0)
    assert card.side == 16
    assert card.persons == sorted(PERSONS)
    assert card.images == 640


def test_equal_weights_give_equal_files(tmp_path):
    save_generator(build(), tmp_path / "a", persons=PERSONS)
    save_generator(build(), tmp_path / "b", persons=list(reversed(PERSONS)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text").write_text("no weights")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    for name, reason in [("none", "no such"), ("text", "not a whole"), ("plain", "without a gen")]:
        with pytest.raises(WeightsError, match=reason) as caught:
            load_generator(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("original", [None, "all", "intensity"])
def test_one_target_for_all_may_be_encoded_once(original):
    values = TINY
    if original is not None:
        encoder = {"kind": "reader", "grid": 8, "width": 16, "original": original}
        values = {"encoder": encoder, "merging": {"heads": 2},
                  "decoder": {"channels": [], "output": "patches"}}  # fmt: skip
    torch.manual_seed(0)
    model = Normalizer(NormalizerConfig.model_validate(values))
    side = model.config.side
    faces, target = torch.rand(3, 3, side, side) * 2 - 1, torch.rand(1, 3, side, side) * 2 - 1
    targets = target.expand_as(faces)
    each, once = model(faces, targets), model(faces, targets, one_target=True)
    torch.testing.assert_close(once, each, atol=1e-5, rtol=1e-5)
    # And its gradient is that of all rows together.
    slopes = []
    for made in (each, once):
        model.zero_grad()
        made.square().sum().backward()
        slopes.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*slopes, atol=1e-3, rtol=1e-4)
