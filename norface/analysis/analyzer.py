"""A photograph => aligned face, normalized face, action units and emotion.

    from norface import Analyzer

    analyze = Analyzer(generator="generator.safetensors", target="target.png",
                       classifier="classifier.safetensors")
    face = analyze("photo.jpg")
    face.normalized          # uint8 (S, S, 3)
    face.action_units        # {12: ActionUnit(probability=0.93, intensity=None), ...}

Without a generator nothing is normalized, without a classifier nothing is recognised; one of them
is enough. Several classifiers may answer together: of action units, of intensities, of emotions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from norface.data.alignment import align_face, template_points
from norface.data.detection import Detection, FaceDetector, choose_detector
from norface.data.normalized import StreamSource, digest_pixels
from norface.devices import read_device
from norface.errors import ConfigError, CorpusError, WeightsError
from norface.files import file_sha256
from norface.images import read_photo, resize_pixels, to_image, to_pixels
from norface.models.classifier import Classifier, load_classifier, to_scores
from norface.models.normalizer import Normalizer, load_generator
from norface.targets import DETECTED_SIDE, check_file

SIDE = 256
"Of the aligned picture that is shown, at least."
ALIGNED_WITHIN = 0.06
"A picture whose eyes lie so near to the template's, in units of the side, is aligned already."

Place = str | Path


@dataclasses.dataclass(frozen=True)
class ActionUnit:
    """What is found of one unit; None = no classifier told."""

    probability: float | None = None
    "0..1; present from 0.5 on."
    intensity: float | None = None
    "0..5."


@dataclasses.dataclass(frozen=True)
class FaceAnalysis:
    """One face."""

    photo: np.ndarray
    "The whole picture, uint8 (H, W, 3)."
    box: tuple[float, float, float, float] | None
    "Left, top, right, bottom in the photo; None = the picture was given aligned."
    faces: int
    "Faces that were found in the photo."
    aligned: np.ndarray
    "uint8 (S, S, 3)."
    normalized_faces: list[np.ndarray]
    "One a target, uint8 (S, S, 3); empty without a generator."
    action_units: dict[int, ActionUnit]
    emotions: dict[str, float]
    "Probabilities, in the order of the classifier; empty without one of emotions."

    @property
    def normalized(self) -> np.ndarray | None:
        """The normalized face of the first target, None without a generator."""
        return self.normalized_faces[0] if self.normalized_faces else None

    @property
    def emotion(self) -> str | None:
        """The most probable emotion."""
        return max(self.emotions, key=self.emotions.__getitem__) if self.emotions else None


class Analyzer:
    """Finds, aligns, normalizes and reads faces; networks are loaded once.

    generator: file of `norface train nor`; target: picture of a face at rest, aligned or not, or
    several, one a stream of the classifier; classifier: file of `norface train cla`, or several
    that tell different things, trained with faces of this generator and these targets. aligned:
    pictures are aligned already, no detector is needed. check_target: refuse a target without a
    face or with an active unit. Raises ConfigError, CorpusError, WeightsError.
    """

    def __init__(
        self,
        *,
        generator: Place | None = None,
        target: Place | Sequence[Place] | None = None,
        classifier: Place | Sequence[Place] | None = None,
        detector: str = "auto",
        detector_weights: Place | None = None,
        aligned: bool = False,
        check_target: bool = True,
        device: torch.device | str = "cpu",
    ):
        if generator is None and classifier is None:
            raise ConfigError("analyze: give a generator, a classifier or both")
        if (generator is None) != (target is None):
            raise ConfigError("analyze: generator and target belong together; give both or neither")
        self.device = read_device(device)
        self.detector: FaceDetector | None = None
        if not aligned:
            self.detector = choose_detector(detector, detector_weights).load()
        self.generator: Normalizer | None = None
        self.targets: list[torch.Tensor] = []
        self.corpora: set[str] = set()
        read = [(path, *_read_classifier(path)) for path in _as_list(classifier)]
        _refuse_twice(read)
        sources = [source for *_, about in read for source in _sources_of(about)]
        self.known = {source.picture for source in sources}
        "Pictures that the classifiers' targets have: never aligned anew."
        if generator is not None:
            self.generator, card = load_generator(generator, self.device)
            self.corpora = {corpus for corpus, _ in card.persons}
            self.targets = [
                self._read_target(one, checked=check_target) for one in _as_list(target)
            ]
        for path, _, about in read:
            self._check_source(path, _sources_of(about), generator)
        self.classifiers = [
            (model.to(self.device), str(about["task"]), list(about["targets"]))
            for _, model, about in read
        ]

    def __call__(self, photo: Place | np.ndarray) -> FaceAnalysis:
        """The largest face of a picture file, or of pixels (H, W, 3).

        Raises CorpusError where there is none, or the file cannot be read.
        """
        return self.find_faces(photo)[0]

    def find_faces(
        self, photo: Place | np.ndarray, *, most: int = 1, name: str = "the picture"
    ) -> list[FaceAnalysis]:
        """Up to `most` faces of a picture, the largest first. Raises CorpusError without any.

        `name` is that of pixels, for messages.
        """
        name = name if isinstance(photo, np.ndarray) else str(photo)
        pixels = photo if isinstance(photo, np.ndarray) else read_photo(photo)
        if self.detector is None:
            if pixels.shape[0] != pixels.shape[1]:
                raise CorpusError(
                    f"{name}: is {pixels.shape[1]}x{pixels.shape[0]}; an aligned picture is square"
                )
            return [self._analyze(pixels, None, 1, pixels)]
        found = self._detect(pixels)
        if not found:
            raise CorpusError(f"{name}: no face found in {pixels.shape[1]}x{pixels.shape[0]}")
        side = SIDE if self.generator is None else max(SIDE, self.generator.config.side)
        return [
            self._analyze(pixels, face, len(found), align_face(pixels, face.five_points, side))
            for face in found[:most]
        ]

    def _detect(self, pixels: np.ndarray) -> list[Detection]:
        assert self.detector is not None
        return self.detector.find_faces(pixels)

    @torch.no_grad()
    def _analyze(
        self, photo: np.ndarray, face: Detection | None, faces: int, aligned: np.ndarray
    ) -> FaceAnalysis:
        normalized = self._normalize(aligned)
        units: dict[int, ActionUnit] = {}
        emotions: dict[str, float] = {}
        for model, task, targets in self.classifiers:
            count = model.shape["image_streams"]
            shown = [to_image(resize_pixels(one, model.config.side))[None].to(self.device)
                     for one in [aligned, *normalized][:count]]  # fmt: skip
            logits, _ = model(shown)
            scores = to_scores(logits.float(), task)[0].tolist()
            if task == "emotion":
                emotions = dict(zip(targets, scores, strict=True))
                continue
            kind = "probability" if task == "au" else "intensity"
            for name, score in zip(targets, scores, strict=True):
                unit = int(name.removeprefix("AU"))
                units[unit] = dataclasses.replace(
                    units.get(unit, ActionUnit()), **{kind: round(score, 4)}
                )
        return FaceAnalysis(
            photo=photo,
            box=None if face is None else face.box,
            faces=faces,
            aligned=aligned,
            normalized_faces=normalized,
            action_units=dict(sorted(units.items())),
            emotions={name: round(value, 4) for name, value in emotions.items()},
        )

    def _normalize(self, aligned: np.ndarray) -> list[np.ndarray]:
        if self.generator is None:
            return []
        side = self.generator.config.side
        original = to_image(resize_pixels(aligned, side))[None].to(self.device)
        return [to_pixels(self.generator(original, target))[0] for target in self.targets]

    def _read_target(self, path: Place, *, checked: bool) -> torch.Tensor:
        """A target's picture (1, 3, S, S), brought to the template where it is not there yet."""
        assert self.generator is not None
        pixels, side = read_photo(path), self.generator.config.side
        square = pixels.shape[0] == pixels.shape[1]
        known = square and digest_pixels(resize_pixels(pixels, side)) in self.known
        if self.detector is not None and not known:
            shown = resize_pixels(pixels, DETECTED_SIDE) if square and len(pixels) < 256 else pixels
            faces = self._detect(shown)
            if faces and not (square and _is_aligned(faces[0], len(shown))):
                pixels, square = align_face(shown, faces[0].five_points, SIDE), True
        if not square:
            raise CorpusError(
                f"{path}: is {pixels.shape[1]}x{pixels.shape[0]} and no face is found in it; give a"
                " picture of the target's face"
            )
        if checked:
            check_file(path, pixels, self.corpora)
        return to_image(resize_pixels(pixels, side))[None].to(self.device)

    def _check_source(
        self, path: Place, sources: list[StreamSource], generator: Place | None
    ) -> None:
        """Raise ConfigError where a classifier was trained with other normalized faces."""
        if len(sources) > len(self.targets):
            raise ConfigError(
                f"{path}: reads {len(sources)} normalized faces beside the original, but there"
                f" {'is' if len(self.targets) == 1 else 'are'} {len(self.targets)} target"
                f"{'' if len(self.targets) == 1 else 's'}; give its generator and as many targets"
            )
        if not sources or generator is None:
            return
        given = file_sha256(generator)[:12]
        for number, (source, target) in enumerate(zip(sources, self.targets, strict=False), 1):
            if given not in source.generators:
                raise ConfigError(
                    f"{path}: was trained with faces of generator {', '.join(source.generators)};"
                    f" {generator} is {given}; give the one that it was trained with"
                )
            if source.picture not in (None, digest_pixels(to_pixels(target)[0])):
                raise ConfigError(
                    f"{path}: was trained with faces on the target {source.target} as stream"
                    f" {number}; the picture given is another; give target.png of that normalized"
                    " set"
                )


def _read_classifier(path: Place) -> tuple[Classifier, dict[str, Any]]:
    """A network and what its file says of it. Raises ConfigError where it reads no pictures."""
    model, about = load_classifier(path)
    if "task" not in about or "targets" not in about:
        raise WeightsError(f"{path}: does not say its task and targets; train it again")
    if model.shape["feature_width"]:
        raise ConfigError(f"{path}: reads features of critics, not pictures; choose another")
    if len(_sources_of(about)) != model.shape["image_streams"] - 1:
        raise WeightsError(
            f"{path}: does not say which generator and target made its normalized faces; train it"
            " again"
        )
    return model, about


def _refuse_twice(read: Sequence[tuple[Place, Classifier, dict[str, Any]]]) -> None:
    """Raises ConfigError where two classifiers tell the same: one answer would hide the other."""
    seen: dict[str, Place] = {}
    for path, _, about in read:
        task = str(about["task"])
        told = [task] if task == "emotion" else [f"{task} of {name}" for name in about["targets"]]
        for one in told:
            if one in seen:
                raise ConfigError(
                    f"classifier: {seen[one]} and {path} both tell {one}; give one of them"
                )
        seen |= dict.fromkeys(told, path)


def _sources_of(about: dict[str, Any]) -> list[StreamSource]:
    return [StreamSource.model_validate(one) for one in about.get("normalized", [])]


def _as_list(given: Place | Sequence[Place] | None) -> list[Place]:
    if given is None:
        return []
    return [given] if isinstance(given, str | Path) else list(given)


def _is_aligned(face: Detection, side: int) -> bool:
    """Whether the eyes lie where the template has them."""
    apart = np.linalg.norm(face.five_points[:2] - template_points(side)[:2], axis=1) / side
    return bool(apart.max() <= ALIGNED_WITHIN)
