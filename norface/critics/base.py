"""Critics: the frozen networks that judge a normalized face.

A critic takes images (N, 3, H, W), RGB, -1..1, of any size; it resizes and scales them itself, is
differentiable in them, and its own parameters never train. What it answers depends on its kind:

    identity     (N, D) of unit length                             eq. 7
    perceptual   list of two feature maps (N, C, h, w)             eq. 6
    landmarks    (N, P, 2) in units of the image side, 0..1        eq. 8
    expression   (N, E)                                            eq. 9
    eyebrow      (N, B)                                            eq. 10

A module that brings critics has a class with `load(kind, choice, parts)`, a line in SOURCES and an
offer in catalogue.py. The file is imported only when a configuration names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from norface.config import Config
from norface.errors import ConfigError, WeightsError
from norface.files import file_sha256

KINDS = ("identity", "perceptual", "landmarks", "expression", "eyebrow")
"Every kind of critic, in the order of the equations that use them."

PACKAGED = Path(__file__).parent / "weights"
"Weights that come with the package, with SHA256SUMS beside them."

FACE_READER = "norface.critics.face_reader:FaceReaderCritic"
MEDIAPIPE = "norface.critics.mediapipe:MediapipeCritic"
SOURCES: dict[tuple[str, str], str] = {
    **{(kind, "synthetic"): FACE_READER for kind in KINDS},
    **{(kind, "mediapipe"): MEDIAPIPE for kind in ("landmarks", "expression", "eyebrow")},
    ("perceptual", "vgg"): "norface.critics.vgg:VggCritic",
    ("identity", "arcface"): "norface.critics.arcface:ArcFaceCritic",
    ("landmarks", "hrnet"): "norface.critics.hrnet:HrnetCritic",
    ("expression", "embedding"): "norface.critics.embedding:EmbeddingCritic",
    ("eyebrow", "coefficients"): "norface.critics.coefficients:CoefficientsCritic",
}
"(kind, source) => module:class. The class has `load(kind, choice, parts) -> Critic`."
OPTIONS = {"architecture": ("embedding", "coefficients"), "coefficients": ("coefficients",)}
"Keys of a CriticChoice that few sources take => these sources."


class Card(Config):
    """What must be known of a borrowed or shipped network."""

    name: str
    "What it is, with its version."
    source: str
    "Where it was trained or where a person gets it."
    licence: str
    "Licence of the weights (not of the code that runs them)."
    input_side: int
    "Side in pixels that it was trained at; critics resize to it."
    notes: str = ""
    "Training data, range of the input, known weaknesses."
    sha256: str | None = None
    "Of the weights file; null where it has none."
    research_only: bool = False
    "Whether the weights may serve non-commercial research only, as far as is known."


class CriticChoice(Config):
    """Which network judges one thing."""

    source: Literal[
        "synthetic", "mediapipe", "vgg", "arcface", "hrnet", "embedding", "coefficients"
    ] = "synthetic"
    """Whose network: synthetic = the small ones that ship with the package. `norface critics list`
    tells of the others."""
    weights: Path | None = None
    "Weights file; null = the packaged one, where there is one."
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    "What the file's sha256 must be; null = not checked (packaged files always are)."
    accept_licence: bool = False
    "Yes to weights that may serve non-commercial research only; without it they are refused."
    architecture: str | None = None
    """timm's name of the network, for source coefficients, and for source embedding with a
    checkpoint of timm; else null."""
    coefficients: list[Annotated[int, Field(ge=0)]] | None = None
    """For source coefficients: which of the network's outputs, counted from 0, are read; null =
    all."""


class CriticsConfig(Config):
    """The judges of F_nor. null = none of that kind; then its loss must be null. Where a loss is
    null, its critic is not loaded."""

    identity: CriticChoice | None = None
    "E_id of eq. 7: who it is."
    perceptual: CriticChoice | None = None
    "VGG of eq. 6: how it looks."
    landmarks: CriticChoice | None = None
    "Facial contour of eq. 8: shape and pose."
    expression: CriticChoice | None = None
    "E_exp of eq. 9: movements of the whole face."
    eyebrow: CriticChoice | None = None
    "E_eye of eq. 10: movements of the brows."


class Critic(nn.Module):
    """A frozen judge. Subclasses implement `read`.

    Critics that share a network hold the same `trunk` module and only `read` differently from its
    output; `read_features` then runs that network once. Without a trunk, `read` gets the images.
    `contour` of a landmark critic lists the points of eq. 8, in order.
    """

    contour: list[int]

    def __init__(self, kind: str, card: Card, trunk: nn.Module | None = None):
        super().__init__()
        self.kind, self.card, self.trunk = kind, card, trunk

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> Critic:
        """Build one critic. `parts` lives for one `build_critics`: keep shared trunks there.

        Raises WeightsError in one line that says where to get what is missing.
        """
        raise NotImplementedError

    def read(self, seen: Any) -> Any:
        """The trunk's output (or images, without a trunk) => features of this kind."""
        raise NotImplementedError

    def look(self, images: torch.Tensor) -> Any:
        """images (N, 3, H, W), -1..1, any size => what `read` takes."""
        return images if self.trunk is None else self.trunk(images)

    def forward(self, images: torch.Tensor) -> Any:
        """images (N, 3, H, W), -1..1, any size => features of this kind."""
        return self.read(self.look(images))

    def freeze(self) -> Critic:
        """Parameters stop asking for gradients and the mode is evaluation for good."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Critic:
        """A critic never leaves evaluation mode, whatever a surrounding module is told."""
        return super().train(False)


def build_critics(
    config: CriticsConfig, device: torch.device | str = "cpu", kinds: Collection[str] = KINDS
) -> dict[str, Critic]:
    """The configured critics by kind, frozen, on `device`; of these `kinds` only.

    Raises ConfigError for a source that has no critic of that kind or whose licence nobody said
    yes to, and WeightsError for files that are missing or wrong, which names all of them.
    """
    parts: dict[Any, Any] = {}
    critics: dict[str, Critic] = {}
    problems: dict[str, list[str]] = {}
    for kind in KINDS:
        choice: CriticChoice | None = getattr(config, kind)
        if choice is None or kind not in kinds:
            continue
        try:
            critics[kind] = load_critic(kind, choice, parts).to(device)
        except WeightsError as error:
            problems.setdefault(str(error), []).append(f"critics.{kind}")
    if problems:
        # What several critics lack alike is told once.
        told = (f"{', '.join(names)}: {problem}" for problem, names in problems.items())
        raise WeightsError(" | ".join(told))
    return critics


def load_critic(kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> Critic:
    """One critic, frozen; see `build_critics`. `parts`: see Critic.load."""
    for name, sources in OPTIONS.items():
        found = getattr(choice, name)
        if found is not None and choice.source not in sources:
            raise ConfigError(
                f"critics.{kind}.{name}: found '{found}'; only source={' or '.join(sources)}"
                " takes one; set it to null"
            )
    critic = find_class(kind, choice.source).load(kind, choice, parts)
    check_licence(kind, choice, critic.card)
    check_numbers(critic)
    return critic.freeze()


def check_licence(kind: str, choice: CriticChoice, card: Card) -> None:
    """Raises ConfigError for weights of non-commercial research that nobody said yes to."""
    if card.research_only and not choice.accept_licence:
        raise ConfigError(
            f"critics.{kind}: {card.name} counts as {card.licence}; set"
            f" critics.{kind}.accept_licence=true if that allows your use, or choose another source"
        )


def check_numbers(critic: Critic) -> None:
    """Raises WeightsError when a weight is NaN or infinite."""
    for name, tensor in critic.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(
                f"tensor {name} of {critic.card.name} holds values that are not finite; get the"
                " file again"
            )


def check_features(features: Mapping[str, Any]) -> None:
    """Raises WeightsError when a critic answers with NaN or infinity; `features` by kind."""
    for kind, found in features.items():
        for level in found if isinstance(found, list) else [found]:
            rows = level.flatten(1).isfinite().all(1)
            if not bool(rows.all()):
                raise WeightsError(
                    f"critics.{kind}: features of {int((~rows).sum())} of {len(rows)} pictures are"
                    " not finite; see what `norface critics check` says of this critic"
                )


def list_sources(kind: str) -> str:
    """Sources that have a critic of this kind, for messages: `synthetic, vgg`."""
    return ", ".join(name for one_kind, name in SOURCES if one_kind == kind)


def find_class(kind: str, source: str) -> type[Critic]:
    """The class behind (kind, source). Raises ConfigError with the sources that have this kind."""
    place = SOURCES.get((kind, source))
    if place is None:
        raise ConfigError(
            f"critics.{kind}.source: '{source}' has no {kind} critic; valid: {list_sources(kind)}"
        )
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def read_features(
    critics: Mapping[str, Critic], images: torch.Tensor, kinds: Iterable[str] | None = None
) -> dict[str, Any]:
    """Features of images (N, 3, H, W), -1..1, by kind; a shared trunk runs once.

    `kinds` narrows what is read; kinds without a critic are left out.
    """
    wanted = [kind for kind in (critics if kinds is None else kinds) if kind in critics]
    seen: dict[int, Any] = {}
    features: dict[str, Any] = {}
    for kind in wanted:
        critic = critics[kind]
        trunk = id(critic if critic.trunk is None else critic.trunk)
        if trunk not in seen:
            seen[trunk] = critic.look(images)
        features[kind] = critic.read(seen[trunk])
    return features


def find_weights(choice: CriticChoice, packaged: str | None = None, advice: str = "") -> Path:
    """Path of a critic's weights, its sha256 checked.

    `packaged` names the file that ships with the package; `advice` says where else to get one.
    Raises WeightsError when the file is missing or is not the one that its sum promises.
    """
    expected = choice.sha256
    path = choice.weights
    if path is None:
        if packaged is None:
            raise WeightsError(
                f"critic '{choice.source}' has no weights: set its `weights`; {advice}"
            )
        path = PACKAGED / packaged
        expected = expected or read_sums().get(packaged)
        if path.is_file() and expected is None:
            raise WeightsError(
                f"{path}: not listed in {PACKAGED / 'SHA256SUMS'}; reinstall norface"
            )
    if not path.is_file():
        raise WeightsError(f"{path}: no weights of critic '{choice.source}' there; {advice}")
    if expected is not None and (found := file_sha256(path)) != expected:
        raise WeightsError(
            f"{path}: sha256 is {found[:12]}..., expected {expected[:12]}...; get the file again"
        )
    return path


def read_sums() -> dict[str, str]:
    """File name => sha256 of the packaged weights, from SHA256SUMS (lines of `sha256sum`)."""
    path = PACKAGED / "SHA256SUMS"
    if not path.is_file():
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip())
    return {name.strip().lstrip("*"): digest for digest, name in pairs}
