"""Weights of a face encoder from files that others wrote: ours, MAE's, MAE-Face's and timm's.

    report = load_encoder_weights(encoder, Path("mae_face_pretrain_vit_base.pth"))
    print(report)

The files differ in their wrapping, not in the names of the tensors, which are timm's:

    norface train mae          encoder.safetensors, bare names, with a card
    facebookresearch/mae       .pth, under `model`: mae_pretrain_vit_*.pth the encoder alone,
                               mae_visualize_vit_* and *_full.pth with decoder and mask_token
    FuxiVirtualHuman/MAE-Face  .pth, under `model` (its example.py)
    timm                       .safetensors or .pth, bare or under `state_dict`
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from norface.errors import ConfigError, WeightsError
from norface.models.encoder_files import EncoderCard, read_checkpoint
from norface.models.vit import FaceEncoder, VitConfig

ANCHOR = "patch_embed.proj.weight"
"Every vision transformer in timm's naming has this tensor; what stands before it is the prefix."
TRUNK = ("blocks.", "patch_embed.", "norm_pre.", "reg_token", "dist_token", "rel_pos", "rope")
"A tensor named so would change the tokens, so a file that has one more than we do is refused."
MAY_LACK = ("cls_token", "norm.weight", "norm.bias")
"Fine-tuned classifiers that average over tokens have no last norm (they carry fc_norm instead)."


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
    refuse_other_sizes(tensors, card, encoder.config, path=path, key=key)
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
    tensors: Mapping[str, torch.Tensor],
    card: EncoderCard | None,
    config: VitConfig,
    *,
    path: Path,
    key: str,
) -> None:
    """Raise WeightsError naming every size of the file that the encoder does not have.

    The number of heads is in no tensor: only a card of ours tells it.
    """
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
    if card is not None and "heads" in card.encoder.model_fields_set:
        sizes["heads"] = card.encoder.heads
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
        from timm.layers import resample_abs_pos_embed

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
