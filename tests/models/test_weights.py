"""Checkpoints in the formats that exist, made from timm's own models."""

import argparse
import json
import os
import pickle
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from norface.errors import ConfigError, WeightsError
from norface.models.vit import FaceEncoder, VitConfig
from norface.models.weights import load_encoder_weights, save_encoder

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZES = {"side": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2}


def build_timm(side=32, **changes) -> VisionTransformer:
    torch.manual_seed(1)
    sizes = {"img_size": side, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = VisionTransformer(**sizes | {"num_classes": 0} | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def build_encoder(**changes) -> FaceEncoder:
    torch.manual_seed(2)
    return FaceEncoder(VitConfig(**{**SIZES, **IMAGENET, **changes})).eval()


def expected_tokens(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """timm's own answer to pictures on 0..1 that were standardized by hand."""
    mean, std = (torch.tensor(IMAGENET[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        tokens = model.forward_features((images - mean) / std)
    return tokens[:, model.num_prefix_tokens :]


def assert_same_tokens(encoder: FaceEncoder, model: VisionTransformer) -> None:
    images = torch.rand(2, 3, encoder.config.side, encoder.config.side)
    with torch.no_grad():
        found = encoder(images * 2 - 1)
    torch.testing.assert_close(found, expected_tokens(model, images), atol=1e-5, rtol=1e-5)


def with_decoder(state: dict) -> dict:
    """As mae_visualize_vit_*.pth, which has a decoder (facebookresearch/mae models_mae.py)."""
    more = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 17, 8)}
    more |= {"decoder_embed.weight": torch.zeros(8, 16), "decoder_norm.weight": torch.zeros(8)}
    more |= {"decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8)}
    return state | more


WRAPPINGS = {
    "mae_pretrain": lambda state: {"model": state},
    "mae_visualize": lambda state: {"model": with_decoder(state)},
    "mae_training": lambda state: {
        "model": with_decoder(state), "optimizer": {"state": {}}, "epoch": 799,
        "scaler": {"scale": 1.0}, "args": argparse.Namespace(batch_size=64),
    },
    "timm": lambda state: state | {"head.weight": torch.zeros(5, 16), "head.bias": torch.zeros(5)},
    "timm_training": lambda state: {
        "epoch": 3, "arch": "vit", "state_dict": {n: t * 0 for n, t in state.items()},
        "state_dict_ema": state,
    },
    "distributed": lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{n}": t for n, t in state.items()},
    "inside": lambda state: {"model": {f"encoder.{n}": t for n, t in state.items()}
                             | {"enter.weight": torch.zeros(8, 16)}},
    "keyed": lambda state: {"encoder": state, "predictor": {"x": torch.zeros(1)}},
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_encoder_gives_timms_tokens_from_every_wrapping(tmp_path, wrapping):
    model, encoder = build_timm(), build_encoder()
    torch.save(WRAPPINGS[wrapping](model.state_dict()), tmp_path / "weights.pth")
    report = load_encoder_weights(encoder, tmp_path / "weights.pth")
    assert_same_tokens(encoder, model)
    assert sorted(report.matched) == sorted(model.state_dict())
    assert report.missing == report.resampled == []


@pytest.mark.parametrize("legacy", [False, True])
def test_mae_face_weights_of_224_pixels_serve_at_256(tmp_path, legacy):
    """ViT-B's grids, 14x14 and 16x16, on a narrow network; a .pth in both formats of torch."""
    model = build_timm(side=112)
    path = tmp_path / "mae_face_pretrain_vit_base.pth"
    state = with_decoder(model.state_dict())
    torch.save({"model": state}, path, _use_new_zipfile_serialization=not legacy)
    encoder = build_encoder(side=128)
    report = load_encoder_weights(encoder, path)
    wide = build_timm(side=128)
    state = model.state_dict()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [16, 16])
    wide.load_state_dict(state)
    assert_same_tokens(encoder, wide)
    assert report.resampled == ["pos_embed 14x14 -> 16x16"]
    assert "pos_embed" not in report.matched and len(report.matched) == len(state) - 1
    assert report.unexpected == [n for n in with_decoder({})]
    text = str(report)
    assert re.search(r"matched +29 tensors", text)
    assert "pos_embed 14x14 -> 16x16" in text and "decoder_blocks (1)" in text
    assert "under 'model'" in text


def test_safetensors_of_timm_take_mean_and_std_from_the_config_beside_them(tmp_path):
    model = timm.create_model(
        "vit_base_patch16_224.mae", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2
    ).eval()
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    path = tmp_path / "model.safetensors"
    encoder = build_encoder()
    report = load_encoder_weights(encoder, path)
    assert report.card.source == "timm vit_base_patch16_224"
    assert_same_tokens(encoder, model)
    with pytest.raises(ConfigError, match=r"encoder.mean: found \[0.5, 0.5, 0.5\], but .*0.485"):
        load_encoder_weights(build_encoder(mean=(0.5, 0.5, 0.5)), path)


def test_a_file_without_card_needs_mean_and_std_in_the_config(tmp_path):
    torch.save(build_timm().state_dict(), tmp_path / "w.pth")
    encoder = FaceEncoder(VitConfig(**SIZES, std=(0.5, 0.5, 0.5)))
    before = encoder.vit.pos_embed.clone()
    with pytest.raises(ConfigError, match=r"set normalizer.encoder.mean and normalizer.encoder.st"):
        load_encoder_weights(encoder, tmp_path / "w.pth", key="normalizer.encoder")
    assert torch.equal(encoder.vit.pos_embed, before)
    load_encoder_weights(build_encoder(mean=(0.5, 0.5, 0.5)), tmp_path / "w.pth")


def test_our_own_export_comes_back_with_its_card(tmp_path):
    source, encoder = build_encoder(), FaceEncoder(VitConfig(**SIZES, **IMAGENET)).eval()
    for name in ("a.safetensors", "b.safetensors"):
        save_encoder(
            source, tmp_path / name, source="a test", persons=[("bp4d", "F001")], images=640
        )
    report = load_encoder_weights(encoder, tmp_path / "a.safetensors")
    faces = torch.rand(1, 3, 32, 32)
    assert torch.equal(source(faces), encoder(faces))
    assert (report.card.source, report.card.images) == ("a test", 640)
    assert report.card.persons == [("bp4d", "F001")]
    assert report.card.encoder == source.config
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="vit.std: found .* set it so"):
        load_encoder_weights(
            build_encoder(std=(0.5, 0.5, 0.5)), tmp_path / "a.safetensors", key="vit"
        )
    # The names are timm's, so timm reads the file too.
    model = build_timm()
    timm.models.load_checkpoint(model, str(tmp_path / "a.safetensors"))
    assert_same_tokens(encoder, model)


def test_class_token_of_the_file_is_dropped_where_the_encoder_has_none(tmp_path):
    model = build_timm()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = build_encoder(class_token=False)
    report = load_encoder_weights(encoder, tmp_path / "w.pth")
    assert report.unexpected == ["cls_token"]
    assert torch.equal(encoder.vit.pos_embed, model.pos_embed[:, 1:])


def test_class_token_that_the_file_lacks_is_named_missing(tmp_path):
    model = build_timm(class_token=False, global_pool="avg")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = build_encoder()
    report = load_encoder_weights(encoder, tmp_path / "w.pth")
    # A timm model that averages has fc_norm in the place of the last norm.
    assert report.missing == ["cls_token", "norm.weight", "norm.bias"]
    assert report.unexpected == ["fc_norm.weight", "fc_norm.bias"]
    assert torch.equal(encoder.vit.pos_embed[:, 1:], model.pos_embed)
    assert (encoder.vit.pos_embed[:, 0] == 0).all()


def test_positions_without_a_place_for_the_class_token_give_timms_tokens(tmp_path):
    model = build_timm(no_embed_class=True)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = build_encoder()
    load_encoder_weights(encoder, tmp_path / "w.pth")
    assert_same_tokens(encoder, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 4}, "has patch 4, but normalizer.encoder has patch 8"),
        ({"embed_dim": 32, "depth": 3}, "has width 32, depth 3, but .* has width 16, depth 2"),
        ({"mlp_ratio": 2}, "has mlp_ratio 2, but normalizer.encoder has mlp_ratio 4"),
        ({"in_chans": 1}, r"has shape \(16, 1, 8, 8\); expected \(L, 3, p, p\)"),
        ({"reg_tokens": 4}, r"pos_embed has shape \(1, 21, 16\)"),
        ({"reg_tokens": 4, "no_embed_class": True}, "has reg_token; only 30 of the encoder's 30"),
        ({"init_values": 1e-5}, "has blocks.0.ls1.gamma and 3 more; .* of another kind"),
        ({"qkv_bias": False}, "lacks blocks.0.attn.qkv.bias and 1 more; only 28 of .* 30"),
        ({"qk_norm": True}, "has blocks.0.attn.q_norm.weight and 7 more"),
    ],
)
def test_a_transformer_of_other_sizes_or_kind_is_refused_in_one_line(tmp_path, changes, message):
    torch.save({"model": build_timm(**changes).state_dict()}, tmp_path / "w.pth")
    encoder = build_encoder()
    before = {name: tensor.clone() for name, tensor in encoder.vit.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder_weights(encoder, tmp_path / "w.pth", key="normalizer.encoder")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    for name, tensor in encoder.vit.state_dict().items():
        assert torch.equal(tensor, before[name])


class Bomb:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, bare):
    state = {"model": build_timm().state_dict(), "args": Bomb(str(tmp_path / "ran"))}
    if bare:
        (tmp_path / "w.pth").write_bytes(pickle.dumps(state))
    else:
        torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="could run code; not read") as caught:
        load_encoder_weights(build_encoder(), tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_none_are_refused_in_one_line(tmp_path):
    torch.save(build_timm().state_dict(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    save_file(build_timm().state_dict(), tmp_path / "safe")
    (tmp_path / "cut safe").write_bytes((tmp_path / "safe").read_bytes()[:4000])
    (tmp_path / "text").write_text("<html>404</html>")
    (tmp_path / "empty").write_bytes(b"")
    torch.save([torch.zeros(1)], tmp_path / "list")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other")
    state = build_timm().state_dict()
    two = {f"{name}.{n}": t for name in ("student", "teacher") for n, t in state.items()}
    torch.save(two, tmp_path / "two")
    state["norm.bias"][3] = float("nan")
    torch.save(state, tmp_path / "nan")
    for name, reason in {
        "none": "cannot be read",
        "cut": "not a whole file",
        "cut safe": "not a whole safetensors",
        "text": "neither safetensors nor what torch saves",
        "empty": "not a whole file of weights",
        "list": "holds a list",
        "other": r"no tensor \*patch_embed.proj.weight among its 1 \(conv.weight",
        "two": "several vision transformers in it, under 'student.', 'teacher.'",
        "nan": "norm.bias is not finite",
    }.items():
        with pytest.raises(WeightsError, match=reason) as caught:
            load_encoder_weights(build_encoder(), tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_config_of_another_tool_beside_the_file_is_no_card(tmp_path):
    torch.save(build_timm().state_dict(), tmp_path / "w.pth")
    for text in ("{", "[]", '{"pretrained_cfg": 3}', json.dumps({"model_type": "vit"})):
        (tmp_path / "config.json").write_text(text)
        assert load_encoder_weights(build_encoder(), tmp_path / "w.pth").card is None
