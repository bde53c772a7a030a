"""`norface bench renderer`: the embedded corpus seen by networks that nobody here trained.

MediaPipe's networks were trained on people. The detector says whether a picture shows a face, and
the blendshapes whether an action unit looks like that action: for each unit the area under the ROC
curve of one blendshape, frames with intensity >= 3 against frames with 0, compared only within a
subject, so that resting faces neither help nor harm.

Whether subjects are told apart says an ArcFace network that was trained on people (`--identity`);
the npm package faceplugin-face-recognition-js 0.0.1 holds one (model/fr_feature.onnx). Without one
the packaged `judge-identity`, trained on our own renders, stands in; it is a weak witness.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from norface.bench.judging import count_pairs, measure_detection
from norface.config import Config
from norface.critics.base import PACKAGED, CriticChoice, CriticsConfig, build_critics
from norface.data.detection import choose_detector
from norface.images import to_image
from norface.models.face_networks import load_face_network
from norface.models.mediapipe import BLENDSHAPES
from norface.progress import Progress
from norface.synthetic.parameters import FaceParameters
from norface.synthetic.renderer import render
from norface.synthetic.sampling import draw_parameters
from norface.training.stages.critic import measure_identity

WITNESSES: dict[int, str] = {
    1: "browInnerUp", 2: "browOuterUp", 4: "browDown", 5: "eyeWide", 7: "eyeSquint",
    10: "mouthUpperUp", 12: "mouthSmile", 15: "mouthFrown", 20: "mouthStretch",
    25: "mouthLowerDown", 26: "jawOpen",
}  # fmt: skip
"Action unit => the blendshape that fits; the mean of left and right where there are two."

POOL, FIRST = "critics", 99_000
"Persons that no training and no choice of the renderer ever saw."
STRONG = 3.0
"Intensity from which an action must show."
GOALS = {"found": 0.99, "auc": 0.92, "each": 0.85, "identity": 0.95, "rate": 25.0}
_DETECTED = 5
"Every so many frames of a subject the detector looks at one: it is the slow part."
_BATCH = 16


class RendererFigures(Config):
    """What the networks say."""

    subjects: int
    frames: int
    side: int
    first_subject: int
    looked_at: int
    "Pictures that the detector saw."
    found: float
    "Share of them in which it found one face, and that where the face is."
    found_dark: float
    "The same among the darker half of the subjects' skins."
    missed: list[str]
    "Pictures without: SUBJECT/FRAME."
    auc: dict[str, float]
    "Blendshape => area within subjects."
    pairs: dict[str, int]
    "How many pairs of frames that area counts."
    auc_mean: float
    identity_auc: float
    "Two pictures of one subject against two of different ones, all pairs."
    identity_by: str
    "The network that says so; judge-identity was trained on our own renders, a weak stand-in."
    per_core: float
    "Pictures of this side a second of one core's time."
    per_core_64: float
    "Pictures of 64x64 a second of one core's time."

    def describe(self) -> str:
        """A table for a person."""
        lines = [
            f"{self.subjects} subjects of {self.frames} frames, {self.side}x{self.side},"
            f" from subject {self.first_subject} of pool {POOL}",
            f"  MediaPipe finds            {self.found:>8.1%}  (goal {GOALS['found']:.0%};"
            f" {self.looked_at} looked at; darker half {self.found_dark:.1%})",
        ]
        lines += [
            f"  AU{unit:<2} {name:<20} {self.auc[name]:>9.3f}  ({self.pairs[name]} pairs)"
            for unit, name in WITNESSES.items()
        ]
        return "\n".join(
            [
                *lines,
                f"  mean                       {self.auc_mean:>8.3f}  (goal {GOALS['auc']},"
                f" each {GOALS['each']})",
                f"  identity                   {self.identity_auc:>8.3f}  (goal"
                f" {GOALS['identity']} by a network trained on people; by {self.identity_by})",
                f"  rendered a second and core {self.per_core:>8.1f}  (goal {GOALS['rate']:.0f});"
                f" {self.per_core_64:.0f} of 64x64",
            ]
        )


def bench_renderer(
    *,
    subjects: int,
    frames: int,
    side: int = 256,
    first_subject: int = FIRST,
    identity: Path | None = None,
) -> RendererFigures:
    """Render, ask the networks. Raises ConfigError, WeightsError, CorpusError.

    identity: an ArcFace network trained on people (.pt or .onnx); None = judge-identity.
    """
    choice = CriticsConfig(expression=CriticChoice(source="mediapipe"))
    expression = build_critics(choice)["expression"]
    detector = choose_detector("mediapipe").load()
    drawn = [
        draw_parameters(POOL, first_subject + person, frame)
        for person in range(subjects)
        for frame in range(frames)
    ]
    judge = choose_judge(identity)
    shapes, embeddings, here, missed, brightness = [], [], [], [], []
    render(drawn[0], side)
    spent = 0.0
    with Progress("renderer", len(drawn), unit="face") as progress, torch.inference_mode():
        for start in range(0, len(drawn), _BATCH):
            batch = drawn[start : start + _BATCH]
            begin = time.process_time()
            faces = [render(one, side) for one in batch]
            spent += time.process_time() - begin
            images = to_image(np.stack([face.pixels for face in faces]))
            shapes.append(expression(images).numpy())
            embeddings.append(judge(images).numpy())
            for number, face in enumerate(faces, start):
                person, frame = divmod(number, frames)
                if frame % _DETECTED == 0:
                    here.append(measure_detection(detector, face))
                    brightness.append(_skin_of(drawn[number]))
                    if not here[-1]:
                        missed.append(f"{first_subject + person}/{frame}")
            progress.advance(len(batch))
    subject = np.repeat(np.arange(subjects), frames)
    auc, pairs = _areas(drawn, np.concatenate(shapes), subject)
    dark = np.array(brightness) <= np.median(brightness)
    return RendererFigures(
        subjects=subjects,
        frames=frames,
        side=side,
        first_subject=first_subject,
        looked_at=len(here),
        found=float(np.mean(here)),
        found_dark=float(np.mean(np.array(here)[dark])),
        missed=missed,
        auc=auc,
        pairs=pairs,
        auc_mean=float(np.mean(list(auc.values()))),
        identity_auc=measure_identity(np.concatenate(embeddings), subject)["auc"],
        identity_by="judge-identity" if identity is None else identity.name,
        per_core=len(drawn) / spent,
        per_core_64=_rate(drawn[: 8 * frames], 64),
    )


def choose_judge(weights: Path | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Images (N, 3, S, S) => embeddings (N, L) of who they show."""
    if weights is None:
        return load_face_network(PACKAGED / "judge-identity.safetensors").eval()
    # Whoever names the file here has its owner's leave to measure with it.
    choice = CriticChoice(source="arcface", weights=weights, accept_licence=True)
    return build_critics(CriticsConfig(identity=choice))["identity"]


def _skin_of(parameters: FaceParameters) -> float:
    from norface.synthetic.identity import draw_identity

    return draw_identity(parameters.identity_seed).look.skin_g


def _rate(drawn: list[FaceParameters], side: int) -> float:
    """Pictures a second of one core's time, the persons' own preparation not counted."""
    for one in drawn:
        render(one, side)
    begin = time.process_time()
    for one in drawn:
        render(one, side)
    return len(drawn) / (time.process_time() - begin)


def witness_columns(name: str) -> list[int]:
    """Positions of a blendshape, or of its left and right."""
    return [
        i for i, known in enumerate(BLENDSHAPES) if known in (name, name + "Left", name + "Right")
    ]


def _areas(
    drawn: list[FaceParameters], shapes: np.ndarray, subject: np.ndarray
) -> tuple[dict[str, float], dict[str, int]]:
    auc, pairs = {}, {}
    for unit, name in WITNESSES.items():
        intensity = np.array([one.intensity.get(unit, 0.0) for one in drawn])
        score = shapes[:, witness_columns(name)].mean(1)
        won, count = count_pairs(intensity, score, subject, strong=STRONG)
        auc[name], pairs[name] = won / max(count, 1), count
    return auc, pairs
