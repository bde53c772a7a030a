"""FaceRecord: one face and what is known of it, on its way from a corpus folder to a shard."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from norface.data.labels import ACTION_UNITS, EMOTIONS
from norface.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np

LANDMARKS = 68
"Points of `FaceRecord.landmarks`."
_PART = re.compile(r"[A-Za-z0-9+-]+")


@runtime_checkable
class StoredPicture(Protocol):
    """A picture inside a larger file: a frame of a video, an entry of a RecordIO archive.

    Picklable and small; the file is opened where the picture is read. str() names file and place.
    """

    def read(self) -> np.ndarray:
        """Pixels (H, W, 3), uint8, RGB. Raises CorpusError."""
        ...


@dataclasses.dataclass(frozen=True)
class FaceRecord:
    """One face. A person is (corpus, subject); a missing label is absent, never 0.

    Raises CorpusError for a name part with other characters than letters, digits, + and -, a
    negative frame, an unknown action unit or emotion, a presence other than 0 or 1, an intensity
    outside 0..5.
    """

    corpus: str
    subject: str
    clip: str
    frame: int
    image: Path | bytes | StoredPicture | None = None
    "Path of the picture, its encoded bytes, or where it lies in a larger file."
    presence: dict[int, int] = dataclasses.field(default_factory=dict)
    "Action unit => 0 or 1."
    intensity: dict[int, float] = dataclasses.field(default_factory=dict)
    "Action unit => 0..5."
    emotion: str | None = None
    "One of labels.EMOTIONS."
    split: str = ""
    "Official part of the corpus (train, test), empty where there is none."
    landmarks: list[list[float]] | None = None
    "68 x (x, y) in units of the image side, 0..1, from the left and from the top."
    pose: tuple[float, float, float] | None = None
    "Yaw, pitch, roll in degrees."
    region: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of the face that the labels are about, in pixels of the photograph,
    where the corpus tells. Helps to find it; not kept in shards."""

    def __post_init__(self) -> None:
        for field in ("corpus", "subject", "clip"):
            if not _PART.fullmatch(getattr(self, field)):
                raise CorpusError(
                    f"{field} '{getattr(self, field)}' of frame {self.frame}: only letters, digits,"
                    " + and - can be part of a key"
                )
        if self.frame < 0:
            raise CorpusError(f"{self.key}: frame {self.frame} is negative")
        for unit in {**self.presence, **self.intensity}:
            if unit not in ACTION_UNITS:
                known = ", ".join(map(str, ACTION_UNITS))
                raise CorpusError(f"{self.key}: unknown action unit {unit}; known: {known}")
        for unit, value in self.presence.items():
            if value not in (0, 1):
                raise CorpusError(f"{self.key}: AU{unit} is {value!r}; presence is 0 or 1")
        for unit, level in self.intensity.items():
            if not 0 <= level <= 5:
                raise CorpusError(f"{self.key}: AU{unit} has intensity {level!r}; valid: 0..5")
        if self.emotion is not None and self.emotion not in EMOTIONS:
            raise CorpusError(
                f"{self.key}: unknown emotion '{self.emotion}'; known: {', '.join(EMOTIONS)}"
            )

    @property
    def key(self) -> str:
        """corpus_subject_clip_frame, without dots."""
        return f"{self.corpus}_{self.subject}_{self.clip}_{self.frame}"

    def to_json(self) -> bytes:
        """What a shard's KEY.json holds; absent keys mean unlabelled."""
        body: dict[str, Any] = {
            "subject": self.subject,
            "corpus": self.corpus,
            "clip": self.clip,
            "frame": self.frame,
        }
        if self.split:
            body["split"] = self.split
        if self.presence:
            body["au"] = {str(unit): value for unit, value in sorted(self.presence.items())}
        if self.intensity:
            body["intensity"] = {str(unit): value for unit, value in sorted(self.intensity.items())}
        if self.emotion is not None:
            body["emotion"] = self.emotion
        if self.landmarks is not None:
            body["landmarks"] = self.landmarks
        if self.pose is not None:
            body["pose"] = list(self.pose)
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes, image: bytes | None = None) -> FaceRecord:
        """The inverse of `to_json`. Raises CorpusError for what is no such description."""
        try:
            body = json.loads(data)
            pose, landmarks = body.get("pose"), body.get("landmarks")
            if pose is not None and not _are_numbers(pose, 3):
                raise ValueError("pose is not three numbers")
            if landmarks is not None and not (
                len(landmarks) == LANDMARKS and all(_are_numbers(one, 2) for one in landmarks)
            ):
                raise ValueError(f"landmarks are not {LANDMARKS} pairs of numbers")
            if not isinstance(body.get("split", ""), str):
                raise ValueError("split is no text")
            return cls(
                corpus=body["corpus"],
                subject=body["subject"],
                clip=body["clip"],
                frame=int(body["frame"]),
                image=image,
                presence={int(unit): value for unit, value in body.get("au", {}).items()},
                intensity={int(unit): value for unit, value in body.get("intensity", {}).items()},
                emotion=body.get("emotion"),
                split=body.get("split", ""),
                landmarks=landmarks,
                pose=None if pose is None else tuple(pose),
            )
        except (
            ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            raise CorpusError(
                f"a sample's json is damaged ({error!r}); write the shard again"
            ) from None


def _are_numbers(values: Any, count: int) -> bool:
    """Whether this is a list of `count` finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(one) in (int, float) and math.isfinite(one) for one in values)
    )
