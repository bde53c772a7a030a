"""Files that hold a face encoder, read and written. Nothing in a file is ever run.

torch's files are read with weights_only: what holds more than tensors and plain data is refused.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from norface.config import Config
from norface.errors import WeightsError
from norface.files import write_tensors
from norface.models.vit import FaceEncoder, VitConfig

METADATA = "norface"
"The metadata key of our own files."
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "encoder")
"Keys that a checkpoint's tensors may lie under; averaged weights before others, as timm does."


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
    except Exception as error:
        # What a damaged pickle ends in is whatever its bytes happen to ask for.
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
    tensors = {name: tensor.float() for name, tensor in encoder.vit.state_dict().items()}
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    try:
        write_tensors(path, tensors, {METADATA: text})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written ({error})") from None
