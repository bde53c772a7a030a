"""Weights of a face encoder from files that others wrote: ours, MAE's, MAE-Face's and timm's.

    report = load_encoder_weights(encoder, Path("mae_face_pretrain_vit_base.pth"))
    print(report)

The files differ in their wrapping, not in the names of the tensors, which are timm's:

    norface train mae          encoder.safetensors, bare names, with a card
    facebookresearch/mae       .pth, under `model`: mae_pretrain_vit_*.pth the encoder alone,
                               mae_visualize_vit_* and *_full.pth with decoder and mask_token
    FuxiVirtualHuman/MAE-Face  .pth, under `model` (its example.py)
    timm                       .safetensors or .pth, bare or under `state_dict`

Nothing in a file is ever run: torch's files are read with weights_only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from norface.config import Config
from norface.errors import ConfigError, WeightsError
from norface.models.vit import FaceEncoder, VitConfig

METADATA = "norface"
"The metadata key of our own files."
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "encoder")
"Keys that a checkpoint's tensors may lie under; averaged weights before others, as timm does."
ANCHOR = "patch_embed.proj.weight"
"Every vision transformer in timm's naming has this tensor; what stands before it is the prefix."
TRUNK = ("blocks.", "patch_embed.", "norm_pre.", "reg_token", "dist_token", "rel_pos", "rope")
"A tensor named so would change the tokens, so a file that has one more than we do is refused."
MAY_LACK = ("cls_token", "norm.weight", "norm.bias")
"Fine-tuned classifiers that average over tokens have no last norm (they carry fc_norm instead)."


class EncoderCard(Config):
    """What an encoder file says of itself."""

    encoder: VitConfig
    "Sizes, and the mean and std that the weights expect."
    source: str = ""
    "How it was trained, and on which corpora."
    persons: list[tuple[str, str]] = []
    "(corpus, subject) of everyone that it was trained on."
    images: int = 0
    "Pictures that it was trained on, with repetition."


@dataclass
class WeightsReport:
    """What became of the tensors of a file and of the encoder; names are timm's."""

    path: Path
    wrapper: str = ""
    "Keys and prefix that the tensors lay under."
    matched: list[str] = field(default_factory=list)
    "Taken as they are."
    resampled: list[str] = field(default_factory=list)
    "Taken after resampling, with both sizes."
    missing: list[str] = field(default_factory=list)
    "The encoder's own, left as they were."
    unexpected: list[str] = field(default_factory=list)
    "The file's, not used."
    card: EncoderCard | None = None
    "Where the file has one."

    def __str__(self) -> str:
        lines = [f"encoder weights: {self.path}" + (f" under {self.wrapper}" * bool(self.wrapper))]
        lines.append(f"  matched     {len(self.matched)} tensors")
        lines.append(f"  resampled   {', '.join(self.resampled) or 'none'}")
        lines.append(f"  missing     {', '.join(self.missing) or 'none'}")
        groups = Counter(name.split(".")[0] for name in self.unexpected)
        shown = ", ".join(f"{name} ({count})" for name, count in sorted(groups.items())[:12])
        lines.append(f"  unexpected  {shown or 'none'}")
        return "\n".join(lines)


def load_encoder_weights(
    encoder: FaceEncoder, path: Path, *, key: str = "encoder"
) -> WeightsReport:
    """Give `encoder` the weights in a file; position embeddings are resampled to its grid.

    `key` is where the encoder's sizes stand in the configuration, for messages. Raises WeightsError
    for a file that is not a vision transformer of these sizes, that is damaged or that holds code,
    ConfigError where the mean and std that the weights expect are others than configured, or are
    said neither by the file nor by the configuration.
    """
    found, card, wrapper = read_checkpoint(path)
    tensors, outside, prefix = strip_prefix(found, path)
    report = WeightsReport(path, " > ".join(filter(None, [wrapper, prefix])), card=card)
    refuse_other_sizes(tensors, encoder.config, path, key)
    own = encoder.vit.state_dict()
    if "pos_embed" in tensors:
        tensors["pos_embed"] = fit_positions(tensors["pos_embed"], encoder, report)
    taken = {name: tensor for name, tensor in tensors.items() if name in own}
    report.missing = [name for name in own if name not in taken]
    report.unexpected = [name for name in tensors if name not in own] + outside
    refuse_other_kind(report, taken, own)
    check_colours(card, encoder.config, path, key)
    resampled = {text.split()[0] for text in report.resampled}
    report.matched = [name for name in taken if name not in resampled]
    encoder.vit.load_state_dict(taken, strict=False)
    return report


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], EncoderCard | None, str]:
    """Tensors by name, the card where there is one, and the keys that they lay under."""
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if is_safetensors:
        try:
            with safe_open(str(path), framework="pt") as file:
                text = (file.metadata() or {}).get(METADATA)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: not a whole safetensors file ({error})") from None
        return tensors, read_card(text) or read_timm_card(path), ""
    state, keys = read_torch_file(path), []
    while isinstance(state, Mapping) and not any(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        inner = [name for name in WRAPPERS if isinstance(state.get(name), Mapping)]
        if not inner:
            break
        keys.append(inner[0])
        state = state[inner[0]]
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds a {type(state).__name__}, not tensors by name")
    tensors = {str(n): value for n, value in state.items() if isinstance(value, torch.Tensor)}
    return tensors, read_timm_card(path), " > ".join(f"'{name}'" for name in keys)


def read_torch_file(path: Path) -> Any:
    """What torch.save wrote: tensors and plain data only. Raises WeightsError."""
    try:
        # The training checkpoints of facebookresearch/mae carry their command line in a Namespace,
        # which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            saved_by_torch = file.read(1) in (b"P", b"\x80")  # a zip, a pickle
        if not saved_by_torch:
            raise WeightsError(
                f"{path}: neither safetensors nor what torch saves; get the file again"
            ) from None
        code = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(
            f"{path}: holds more than tensors and plain data"
            f" ({code.group(1) if code else 'a pickle'}), which could run code; not read; ask its"
            " maker for a plain state_dict or safetensors"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: not a whole file of weights ({reason})") from None


def read_card(text: str | None) -> EncoderCard | None:
    """The card in the metadata of our own file; None for another of our kinds of file."""
    try:
        return EncoderCard.model_validate_json(text) if text else None
    except ValidationError:
        return None


def read_timm_card(path: Path) -> EncoderCard | None:
    """Mean and std from `config.json` beside a checkpoint, as timm publishes them on a hub."""
    try:
        values = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        facts = values["pretrained_cfg"]
        colours = {name: tuple(facts[name]) for name in ("mean", "std")}
        return EncoderCard(encoder=VitConfig(**colours), source=f"timm {values['architecture']}")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def strip_prefix(
    found: Mapping[str, torch.Tensor], path: Path
) -> tuple[dict[str, torch.Tensor], list[str], str]:
    """The vision transformer's tensors under timm's names, the other names, and the prefix."""
    prefixes = sorted({n.removesuffix(ANCHOR) for n in found if n.endswith(ANCHOR)})
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if not prefixes:
        some = ", ".join(sorted(found)[:3]) or "none"
        raise WeightsError(
            f"{path}: no vision transformer in timm's naming in it: no tensor *{ANCHOR} among its"
            f" {len(found)} ({some}, ...)"
        )
    if len(prefixes) > 1:
        raise WeightsError(
            f"{path}: several vision transformers in it, under"
            f" {', '.join(repr(p) for p in prefixes)}; write the one that you mean to a file of its"
            " own"
        )
    prefix = prefixes[0]
    inside = {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}
    return inside, [name for name in found if not name.startswith(prefix)], prefix.rstrip(".")


def refuse_other_sizes(
    tensors: Mapping[str, torch.Tensor], config: VitConfig, path: Path, key: str
) -> None:
    """Raise WeightsError naming every size of the file that the encoder does not have."""
    kernel = tensors[ANCHOR]
    if kernel.ndim != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise WeightsError(
            f"{path}: {ANCHOR} has shape {tuple(kernel.shape)}; expected (L, 3, p, p)"
        )
    numbers = [int(n.split(".")[1]) for n in tensors if re.match(r"blocks\.\d+\.", n)]
    sizes: dict[str, float] = {
        "patch": kernel.shape[-1],
        "width": kernel.shape[0],
        "depth": max(numbers, default=-1) + 1,
    }
    hidden = tensors.get("blocks.0.mlp.fc1.weight")
    if hidden is not None and hidden.shape[0] != int(config.width * config.mlp_ratio):
        sizes["mlp_ratio"] = hidden.shape[0] / kernel.shape[0]
    wrong = {name: size for name, size in sizes.items() if size != getattr(config, name)}
    if wrong:
        here = ", ".join(f"{name} {getattr(config, name)}" for name in wrong)
        there = ", ".join(f"{name} {size:g}" for name, size in wrong.items())
        raise WeightsError(
            f"{path}: has {there}, but {key} has {here}; set {key} to the file's sizes"
        )


def fit_positions(
    positions: torch.Tensor, encoder: FaceEncoder, report: WeightsReport
) -> torch.Tensor:
    """Positions (1, P' [+ 1], L) of any square grid => (1, P [+ 1], L) of the encoder's."""
    count = positions.shape[1] if positions.ndim == 3 else 0
    before = math.isqrt(count)
    extra = count - before**2
    if not before or extra > 1:
        raise WeightsError(
            f"{report.path}: pos_embed has shape {tuple(positions.shape)}; expected (1, P, L) or"
            " (1, 1 + P, L) with a square number P"
        )
    place, grid = positions[:, extra:].float(), encoder.config.grid
    if before != grid:
        place = resample_abs_pos_embed(place, [grid, grid], [before, before], num_prefix_tokens=0)
        report.resampled.append(f"pos_embed {before}x{before} -> {grid}x{grid}")
    if not encoder.config.class_token:
        return place
    # Without a place of its own, a class token is used as it is: as if its place were zero.
    first = positions[:, :1].float() if extra else torch.zeros_like(place[:, :1])
    return torch.cat([first, place], dim=1)


def refuse_other_kind(
    report: WeightsReport, taken: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> None:
    """Raise WeightsError where the tensors that matter do not all match."""
    path = report.path
    for name, tensor in taken.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the encoder's has"
                f" {tuple(own[name].shape)}"
            )
        if not tensor.isfinite().all():
            raise WeightsError(f"{path}: {name} is not finite; the file is damaged")
    for names, verb in (
        ([name for name in report.missing if name not in MAY_LACK], "lacks"),
        ([name for name in report.unexpected if name.startswith(TRUNK)], "has"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{path}: {verb} {names[0]}{more}; only {len(taken)} of the encoder's {len(own)}"
                " tensors match: a transformer of another kind"
            )


def check_colours(card: EncoderCard | None, config: VitConfig, path: Path, key: str) -> None:
    """Raise ConfigError unless the configured mean and std are those that the weights expect."""
    if card is None:
        unset = [name for name in ("mean", "std") if name not in config.model_fields_set]
        if unset:
            raise ConfigError(
                f"{path} does not say which mean and std it expects: set {key}.mean and {key}.std"
                " (MAE and MAE-Face: ImageNet's [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225])"
            )
        return
    for name in ("mean", "std"):
        wanted, found = getattr(card.encoder, name), getattr(config, name)
        if max(abs(a - b) for a, b in zip(wanted, found, strict=True)) > 1e-6:
            raise ConfigError(
                f"{key}.{name}: found {list(found)}, but {path} expects {list(wanted)}; set it so"
            )


def save_encoder(
    encoder: FaceEncoder,
    path: Path,
    *,
    source: str,
    persons: Sequence[tuple[str, str]],
    images: int,
) -> None:
    """Write weights (fp32) and card as safetensors under timm's names; equal weights, equal bytes.

    Raises WeightsError when the file cannot be written; nothing half-written stays.
    """
    card = EncoderCard(
        encoder=encoder.config, source=source, persons=sorted(persons), images=images
    )
    tensors = {
        n: t.detach().float().cpu().contiguous() for n, t in encoder.vit.state_dict().items()
    }
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(temporary), metadata={METADATA: text})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(f"{path}: cannot be written ({error})") from None
