"""Photographs => aligned and normalized faces, action units with intensity, emotion.

PHOTO is a picture, a folder of them, or a video. A picture a face is written to --out: the photo,
the aligned face, the normalized face, and bars of what was found. A generator needs a target: a
picture of a face at rest, for example target.png of a normalized set, or any photograph of one. A
classifier that was trained with normalized faces needs the generator that made them; several
classifiers of different tasks may be given.

Ends with 0 when a face was found in every picture, with 1 where one had none or could not be read
(each gets its line), with 2 for a mistake in the command.

Example:
  norface analyze photo.jpg --generator runs/nor/generator.safetensors --target target.png \\
      --classifier runs/cla/classifier.safetensors
  norface analyze photos film.mp4 --every 25 --classifier au.safetensors emotion.safetensors \\
      --csv found.csv --json found.json --no-pictures
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from norface.analysis.tables import Found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument("--generator", type=Path, metavar="FILE", help="generator.safetensors")
    parser.add_argument(
        "--target", type=Path, nargs="+", metavar="PICTURE", help="the target's face, or several"
    )
    parser.add_argument(
        "--classifier", type=Path, nargs="+", metavar="FILE", help="classifier.safetensors"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("analysis"), help="folder of the pictures (analysis)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the same, one row a face")
    parser.add_argument(
        "--faces",
        type=int,
        default=1,
        metavar="N",
        help="analyze up to N faces of a picture, the largest first (default: 1)",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every N-th picture of a video (1)"
    )
    parser.add_argument(
        "--aligned", action="store_true", help="the pictures are aligned and square already"
    )
    parser.add_argument("--detector", choices=("auto", "insightface", "mediapipe"), default="auto")
    parser.add_argument("--weights", type=Path, help="the detector's, see norface prepare --help")
    parser.add_argument(
        "--any-target", action="store_true", help="take a target without looking at it"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")


def run(args: argparse.Namespace) -> int:
    """Analyze all pictures; 1 where one had no face."""
    from norface.analysis.analyzer import Analyzer
    from norface.analysis.inputs import list_pictures
    from norface.analysis.tables import describe, to_csv, to_values
    from norface.errors import ConfigError, CorpusError
    from norface.tracking import replacing

    for name in ("faces", "every"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    pictures = list_pictures(args.photos, args.every)
    analyzer = Analyzer(
        generator=args.generator,
        target=args.target,
        classifier=args.classifier,
        detector=args.detector,
        detector_weights=args.weights,
        aligned=args.aligned,
        check_target=not args.any_target,
        device=args.device,
    )
    found: list[Found] = []
    failed = 0
    for picture in pictures:
        try:
            if isinstance(picture, CorpusError):
                raise picture
            faces = analyzer.find_faces(picture.read(), most=args.faces, name=picture.name)
        except CorpusError as error:
            failed += 1
            print(error, file=sys.stderr)
            continue
        for number, face in enumerate(faces, start=1):
            one = (picture.name, number, face)
            found.append(one)
            place = "" if face.faces == 1 else f" (face {number} of {face.faces})"
            line = f"{picture.name}{place}: {describe(face)}"
            if not args.no_pictures:
                line += f" -> {save_picture(one, args.out, len(found))}"
            print(line, flush=True)
            forget_pixels(found)
    for path, text in (
        (args.json, json.dumps([to_values(one) for one in found], indent=1) + "\n"),
        (args.csv, to_csv(found)),
    ):
        if path is not None:
            with replacing(path) as aside:
                aside.write_text(text, encoding="utf-8")
    return 1 if failed else 0


def save_picture(found: Found, folder: Path, number: int) -> Path:
    """Write the face's picture; returns its path. Raises CorpusError."""
    from norface.analysis.picture import write_picture
    from norface.errors import CorpusError
    from norface.files import write_aside

    name, face_number, face = found
    stem = Path(name.replace(":", "-")).name.replace(".", "-")
    path = folder / f"{number:04d}-{stem}{f'-face{face_number}' if face.faces > 1 else ''}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror})") from None
    with write_aside(path) as temporary:
        write_picture(face, temporary, f"{name}, face {face_number} of {face.faces}")
    return path


def forget_pixels(found: list[Found]) -> None:
    """Tables need no pictures: a video's would fill the memory."""
    import dataclasses

    import numpy as np

    name, number, face = found[-1]
    nothing = np.zeros((0, 0, 3), np.uint8)
    slim = dataclasses.replace(face, photo=nothing, aligned=nothing, normalized_faces=[])
    found[-1] = (name, number, slim)
