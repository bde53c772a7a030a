"""AffectNet's layouts, as norface.data.corpora.affectnet describes them.

Oddities: rows without an emotion (codes 8, 9, 10), contempt, a picture that is listed and not there,
file names in other capitals than the list's, a table without its line of names, annotations that
are now a string and now a number, and faces beside a larger one in the same photograph.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.photographs import EmotionFace, draw_faces, place_in_photograph

EMOTIONS = (
    "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt",
)  # fmt: skip
"By code."
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
WITHOUT_EMOTION = (8, 9, 10)
TABLES = {"train": "training.csv", "test": "validation.csv"}
SETS = {"train": "train_set", "test": "val_set"}


def make_record(face: EmotionFace, subject: str, clip: str) -> list[FaceRecord]:
    """What a reader must find of a face with its default options: contempt is left out."""
    if face.emotion == "contempt":
        return []
    return [FaceRecord("affectnet", subject, clip, 0, emotion=face.emotion, split=face.split)]


def write_tables(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Manually_Annotated_Images with training.csv and validation.csv."""
    found: list[FaceRecord] = []
    rows: dict[str, list[list[object]]] = {split: [] for split in TABLES}
    before: np.ndarray | None = None
    for face in draw_faces(settings, EMOTIONS):
        stem = hashlib.sha224(f"{settings.seed} {face.number}".encode()).hexdigest()
        folder = str(face.number % 3 + 1)
        # Every second photograph shows somebody else too, nearer to the camera.
        bystander = before if face.number % 2 else None
        placed = place_in_photograph(face, bystander, settings.seed)
        before = face.pixels
        left, top, right, bottom = placed.box
        landmarks = ";".join(f"{number:.2f}" for number in placed.landmarks.ravel())
        row = [f"{folder}/{stem}.jpg", left, top, right - left, bottom - top, landmarks,
               EMOTIONS.index(face.emotion), 0.1, -0.1]  # fmt: skip
        rows[face.split].append(row)
        path = root / "Manually_Annotated_Images" / folder / f"{stem}.jpg"
        if face.number % 5 == 1:
            path = path.with_name(f"{stem.upper()}.JPG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(placed.pixels))
        for record in make_record(face, stem, folder):
            region = (float(left), float(top), float(right), float(bottom))
            found.append(dataclasses.replace(record, region=region))
    for code in WITHOUT_EMOTION:
        name = f"9/{hashlib.sha224(str(code).encode()).hexdigest()}.jpg"
        rows["train"].insert(code - 8, [name, 0, 0, 20, 20, "", code, -2, -2])
    rows["train"].append([f"9/{'0' * 56}.jpg", 0, 0, 20, 20, "", 0, 0, 0])
    for split, name in TABLES.items():
        with open(root / name, "w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            if split == "train":
                lines.writerow(COLUMNS)
            lines.writerows(rows[split])
    return found


def write_arrays(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """train_set and val_set with images and annotations."""
    found: list[FaceRecord] = []
    counts = dict.fromkeys(SETS, 0)
    for face in draw_faces(settings, EMOTIONS):
        number, code = counts[face.split], EMOTIONS.index(face.emotion)
        counts[face.split] += 1
        folder = root / SETS[face.split]
        write_annotation(folder, number, code)
        np.save(folder / "annotations" / f"{number}_lnd.npy", face.landmarks.ravel())
        suffix = ".JPG" if face.number % 5 == 1 else ".jpg"
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / f"{number}{suffix}").write_bytes(encode_jpeg(face.pixels))
        subject = f"{SETS[face.split].replace('_', '-')}-{number}"
        found += make_record(face, subject, face.split)
    for code in WITHOUT_EMOTION:
        write_annotation(root / "train_set", counts["train"] + code, code)
    # An annotation whose picture is missing.
    write_annotation(root / "val_set", counts["test"], 0)
    return found


def write_annotation(folder: Path, number: int, code: int) -> None:
    """NUMBER_exp.npy, a string for even numbers and an integer for odd ones; _val and _aro."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    values = {"exp": code if number % 2 else str(code), "val": 0.1, "aro": -0.1}
    for name, value in values.items():
        np.save(folder / "annotations" / f"{number}_{name}.npy", np.array(value))


def write_folders(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """train/CODE and Val/CODE, with a file that is no picture and one class without an emotion."""
    found: list[FaceRecord] = []
    phases = {"train": "train", "test": "Val"}
    for face in draw_faces(settings, EMOTIONS):
        code, name = EMOTIONS.index(face.emotion), f"image{face.number:07d}"
        folder = root / phases[face.split] / str(code)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(face.pixels))
        subject = f"{phases[face.split]}-{code}-{name}"
        found += make_record(face, subject, face.split)
    nobody = root / "train" / "8"
    nobody.mkdir(parents=True)
    noise = np.random.default_rng(settings.seed).integers(0, 255, (64, 64, 3), np.uint8)
    (nobody / "image9999999.jpg").write_bytes(encode_jpeg(noise))
    (root / "train" / "8" / "Thumbs.db").write_bytes(b"thumbs")
    return found
