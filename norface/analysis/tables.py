"""What was found as a line, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from norface.analysis.analyzer import FaceAnalysis
from norface.data.labels import EMOTIONS, unit_name

Found = tuple[str, int, FaceAnalysis]
"Name of the picture, number of the face from 1, and what was found."


def describe(face: FaceAnalysis) -> str:
    """'AU12 0.93 (intensity 3.1), AU25 0.71; happiness 0.88': what is there, strongest first."""
    units = []
    for unit, one in face.action_units.items():
        if one.probability is not None and one.probability >= 0.5:
            more = "" if one.intensity is None else f" (intensity {one.intensity:.1f})"
            units.append((one.probability, f"{unit_name(unit)} {one.probability:.2f}{more}"))
        elif one.probability is None and (one.intensity or 0) >= 1:
            units.append((one.intensity or 0, f"{unit_name(unit)} at {one.intensity:.1f}"))
    parts = []
    if face.action_units:
        ordered = [text for _, text in sorted(units, key=lambda pair: -pair[0])]
        parts.append(", ".join(ordered) or "no action unit")
    if face.emotion is not None:
        parts.append(f"{face.emotion} {face.emotions[face.emotion]:.2f}")
    return "; ".join(parts) or "normalized"


def to_values(found: Found) -> dict[str, Any]:
    """One face for JSON; what no classifier told is null or absent."""
    name, number, face = found
    return {
        "picture": name,
        "face": number,
        "faces": face.faces,
        "box": None if face.box is None else [round(edge, 1) for edge in face.box],
        "action_units": {
            unit_name(unit): {"probability": one.probability, "intensity": one.intensity}
            for unit, one in face.action_units.items()
        },
        "emotion": face.emotion,
        "emotions": face.emotions,
    }


def to_csv(found: Sequence[Found]) -> str:
    """One row a face: picture, face, faces, AU12, AU12_intensity, ..., emotion, happiness, ..."""
    units = sorted({unit for _, _, face in found for unit in face.action_units})
    kinds = ("probability", "intensity")
    columns = [
        (unit, kind)
        for unit in units
        for kind in kinds
        if any(getattr(face.action_units.get(unit), kind, None) is not None for *_, face in found)
    ]
    emotions = [name for name in EMOTIONS if any(name in face.emotions for *_, face in found)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [unit_name(unit) + "_intensity" * (kind == kinds[1]) for unit, kind in columns]
    writer.writerow(["picture", "face", "faces", *heads, "emotion", *emotions])
    for name, number, face in found:
        cells = [getattr(face.action_units.get(unit), kind, None) for unit, kind in columns]
        shares = [face.emotions.get(emotion) for emotion in emotions]
        row = [name, number, face.faces, *cells, face.emotion, *shares]
        writer.writerow(["" if cell is None else cell for cell in row])
    return text.getvalue()
