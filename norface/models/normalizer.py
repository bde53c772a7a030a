"""F_nor: an original and a target face => the target's face with the original's expression.

model = Normalizer(NormalizerConfig())
normalized = model(original, target)          # (N, 3, S, S), RGB, -1..1, each
save_generator(model, "generator.safetensors", persons=[("bp4d", "F001")])
model, card = load_generator("generator.safetensors")
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Discriminator, Tag, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import nn

from norface.config import Config, Misfit, describe
from norface.errors import WeightsError
from norface.files import write_tensors
from norface.models.decoder import BLOCKS, DecoderConfig, FacialDecoder, PatchDecoder
from norface.models.merging import ExpressionMerging, MergingConfig
from norface.models.reader_encoder import ReaderEncoder, ReaderEncoderConfig
from norface.models.vit import FaceEncoder, VitConfig

METADATA = "norface"
"The one metadata key of a generator file. One key only: safetensors orders several at random."


def _encoder_kind(value: Any) -> str:
    """`kind` of an encoder's settings; a vision transformer where none is given."""
    found = value.get("kind", "vit") if isinstance(value, dict) else getattr(value, "kind", "vit")
    return str(found)


EncoderConfig = Annotated[
    Annotated[VitConfig, Tag("vit")] | Annotated[ReaderEncoderConfig, Tag("reader")],
    Discriminator(_encoder_kind),
]


class NormalizerConfig(Config):
    """Sizes of F_nor. ViT-B/16 at 256x256 by default; the paper prints the side only."""

    encoder: EncoderConfig = VitConfig()
    "Shared face encoder E_s; its side is the picture's."
    merging: MergingConfig = MergingConfig()
    "Expression merging module."
    decoder: DecoderConfig = DecoderConfig()
    "Decoder D_f, convolutional."

    @model_validator(mode="after")
    def _check_sizes(self) -> NormalizerConfig:
        doublings = max(len(self.decoder.channels) - 1, 0)
        reaches = self.decoder.output == "patches" or self.encoder.patch == 2**doublings
        paints = self.decoder.output == "target" and self.encoder.patch > 2**doublings
        if not (reaches or paints):
            raise Misfit(
                f"'.decoder.channels' has {doublings + 1} entries, which doubles the token grid"
                f" {doublings} times; '.encoder.patch' {self.encoder.patch} needs a power of two"
                " with log2(patch) + 1 entries"
            )
        if self.encoder.width % self.merging.heads:
            raise Misfit(
                f"'.encoder.width' {self.encoder.width} is not a multiple of '.merging.heads'"
                f" {self.merging.heads}"
            )
        return self

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return self.encoder.side


class Normalizer(nn.Module):
    """F_nor: E_s, the merging module and D_f."""

    def __init__(self, config: NormalizerConfig):
        super().__init__()
        self.config = config
        width, grid = config.encoder.width, config.encoder.grid
        self.encoder: nn.Module = (
            FaceEncoder(config.encoder)
            if isinstance(config.encoder, VitConfig)
            else ReaderEncoder(config.encoder)
        )
        self.merging = ExpressionMerging(config.merging, width=width, tokens=grid**2)
        self.decoder: FacialDecoder | PatchDecoder = (
            PatchDecoder(
                width=width,
                grid=grid,
                patch=config.encoder.patch,
                block=BLOCKS[config.decoder.paint],
            )
            if config.decoder.output == "patches"
            else FacialDecoder(config.decoder, width=width, grid=grid)
        )

    def forward(
        self,
        original: torch.Tensor,
        target: torch.Tensor,
        noise: torch.Tensor | None = None,
        *,
        one_target: bool = False,
    ) -> torch.Tensor:
        """I_o, I_t (N, 3, S, S), -1..1 => I_n (N, 3, S, S), -1..1, float32.

        noise: see ReaderEncoder.tell_intensity; only for `encoder.original: intensity`. With
        `one_target` all of I_t are one picture, which is encoded once.
        """
        shown = target[:1] if one_target else target
        if not self.looks_alike:
            original_tokens, target_tokens = (
                self.encode_original(original, noise),
                self.encode(shown),
            )
        elif one_target:
            tokens = self.encode(torch.cat([original, shown]))
            original_tokens, target_tokens = tokens[:-1], tokens[-1:]
        else:
            original_tokens, target_tokens = self.encode(torch.cat([original, target])).chunk(2)
        if one_target:
            target_tokens = target_tokens.expand_as(original_tokens)
        return self.merge_decode(original_tokens, target_tokens, target)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Eq. 1: images (N, 3, S, S), -1..1 => tokens (N, P, L)."""
        return self.encoder(images)

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Whether the backward pass recomputes the blocks of E_s (a transformer), EMM and D_f."""
        if isinstance(self.encoder, FaceEncoder):
            self.encoder.vit.set_grad_checkpointing(
                on or self.encoder.config.gradient_checkpointing
            )
        self.merging.gradient_checkpointing = on
        self.decoder.gradient_checkpointing = on

    @property
    def looks_alike(self) -> bool:
        """Whether originals and targets are encoded the same way, as in the paper."""
        return isinstance(self.config.encoder, VitConfig) or self.config.encoder.original == "all"

    def encode_original(
        self, images: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """e_o: as `encode`, or with `encoder.original: intensity` what that lets through."""
        if self.looks_alike:
            return self.encode(images)
        assert isinstance(self.encoder, ReaderEncoder)
        return self.encoder.tell_intensity(images, noise)

    def merge_decode(
        self, original: torch.Tensor, target: torch.Tensor, picture: torch.Tensor
    ) -> torch.Tensor:
        """e_o, e_t (N, P, L) and I_t (N, 3, S, S) => I_n (N, 3, S, S), -1..1, float32."""
        return self.decoder(self.merging(original, target), picture, original).float()


class GeneratorCard(Config):
    """What a generator file says of itself."""

    architecture: NormalizerConfig
    "Sizes of the network."
    side: int
    "Side of the pictures in pixels."
    persons: list[tuple[str, str]]
    "(corpus, subject) of everyone that it was trained on, originals and targets."
    images: int = 0
    "Pictures that it was trained on, with repetition."


def save_generator(
    model: Normalizer, path: str | Path, *, persons: Sequence[tuple[str, str]], images: int = 0
) -> None:
    """Write the weights (fp32) and the card as safetensors; equal weights give equal bytes.

    Raises WeightsError when the file cannot be written; nothing half-written stays.
    """
    path = Path(path)
    card = GeneratorCard(
        architecture=model.config, side=model.config.side, persons=sorted(persons), images=images
    )
    tensors = {name: tensor.float() for name, tensor in model.state_dict().items()}
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    try:
        write_tensors(path, tensors, {METADATA: text})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written ({error})") from None


def load_generator(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[Normalizer, GeneratorCard]:
    """The network in evaluation mode and its card. Raises WeightsError for any other file."""
    card, tensors = read_generator(Path(path))
    model = Normalizer(card.architecture)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{path}: does not fit the sizes that it states ({reason})") from None
    return model.eval().to(device), card


def read_generator(path: Path) -> tuple[GeneratorCard, dict[str, torch.Tensor]]:
    """Card and tensors of a generator file."""
    if not path.is_file():
        if (inside := path / "generator.safetensors").is_file():
            raise WeightsError(f"{path}: is a folder; give {inside}")
        raise WeightsError(f"{path}: no such generator; `norface train nor` writes one")
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(METADATA)
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from None
    if text is None:
        raise WeightsError(f"{path}: safetensors without a generator's card; not a generator file")
    if any(name.startswith("extractor.") for name in tensors):
        raise WeightsError(
            f"{path}: is a classifier's file; give a generator's (generator.safetensors of"
            " `norface train nor`)"
        )
    try:
        return GeneratorCard.model_validate_json(text), tensors
    except ValidationError as error:
        raise WeightsError(f"{path}: its card is wrong: {describe(error, GeneratorCard)}") from None
