"""CelebA: aligned pictures of 178x218 pixels, with the person and the official part of each.

Files and columns: pytorch/vision:torchvision/datasets/celeba.py. `list_bbox_celeba.txt` is left
alone: its boxes are about the uncropped photographs, not about these pictures. The five points of
`list_landmarks_align_celeba.txt` are about these pictures and say which face is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from norface.data.corpora.base import CorpusReader, find_path
from norface.data.corpora.naming import list_folder, number_picture
from norface.data.records import FaceRecord
from norface.errors import CorpusError

CLIP = "aligned"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
"Numbers of list_eval_partition.txt."
IDENTITIES = "identity_CelebA.txt"
PARTITION = "list_eval_partition.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
FACE_SIZE = 2.2
"""Side of a face's box in units of the larger extent of its five points: brows and chin lie inside,
as eyes and mouth corners span a little less than half of a face each way."""


class Row(NamedTuple):
    """A line of a list: where it stands, and its words behind the picture's name."""

    place: str
    words: list[str]


def places_of(name: str, part: str) -> list[str]:
    """Where copies have a file or folder: the root, torchvision's folder, or the site's."""
    return [f"{folder}{name}" for folder in ("", "celeba/", f"{part}/")]


class CelebAReader(CorpusReader):
    """The aligned pictures, in the order of their names."""

    name = "celeba"
    title = "CelebA: aligned pictures with identities (pre-training)"
    # 202,599 pictures of 10,177 identities, by its authors.
    published = {"samples": 202_599, "subjects": 10_177}
    tree = """\
ROOT/                                  or ROOT/celeba/, or ROOT/Img, ROOT/Anno and ROOT/Eval
  img_align_celeba/000001.jpg
  identity_CelebA.txt                  000001.jpg 2880
  list_eval_partition.txt              000001.jpg 0     (0 train, 1 validation, 2 test)
  list_landmarks_align_celeba.txt      may be missing"""

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError for a folder without pictures, identities or partition."""
        folder = self.need(*places_of("img_align_celeba", "Img"))
        identities = self.read_list(self.need(*places_of(IDENTITIES, "Anno")), columns=1)
        partition = self.read_list(self.need(*places_of(PARTITION, "Eval")), columns=1)
        places = [find_path(self.root, place) for place in places_of(LANDMARKS, "Anno")]
        path = next(filter(None, places), None)
        points = self.read_list(path, columns=10, header=2) if path is not None else {}
        _, names, _ = list_folder(folder)
        there = set(names)
        if not names:
            raise self.misses("img_align_celeba/000001.jpg")
        # A picture that is gone is told once, at the first list that has it.
        for name, row in (points | partition | identities).items():
            if name not in there:
                self.report(row.place, f"the picture {name} is missing in {folder}")
        for name in names:
            if name not in identities:
                self.report(folder / name, f"no identity in {IDENTITIES}; left out")
            elif not identities[name].words[0].isdigit():
                row = identities[name]
                self.report(row.place, f"found identity '{row.words[0]}'; expected a number")
            else:
                clip, frame = number_picture(Path(name).stem, CLIP)
                yield FaceRecord(
                    self.name,
                    str(int(identities[name].words[0])),
                    clip,
                    frame,
                    folder / name,
                    split=self.split_of(folder / name, partition),
                    region=self.region_of(points.get(name)),
                )

    def read_list(self, path: Path, *, columns: int, header: int = 0) -> dict[str, Row]:
        """Picture => its line, behind `header` lines. Lines of other columns become problems."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: not a text in UTF-8") from None
        rows: dict[str, Row] = {}
        for number, line in enumerate(lines[header:], header + 1):
            place, words = f"{path}:{number}", line.split()
            if not words:
                continue
            if len(words) != columns + 1:
                self.report(place, f"{len(words)} columns; expected {columns + 1}")
            elif words[0] in rows:
                self.report(place, f"{words[0]} comes more than once")
            else:
                rows[words[0]] = Row(place, words[1:])
        return rows

    def split_of(self, path: Path, partition: dict[str, Row]) -> str:
        """The official part of a picture, "" where none is told."""
        row = partition.get(path.name)
        if row is None:
            self.report(path, f"is in no part of {PARTITION}")
            return ""
        if row.words[0] not in SPLITS:
            self.report(row.place, f"found part '{row.words[0]}'; valid: {', '.join(SPLITS)}")
        return SPLITS.get(row.words[0], "")

    def region_of(self, row: Row | None) -> tuple[float, float, float, float] | None:
        """A box around the face of five points: left and right eye, nose, corners of the mouth."""
        if row is None:
            return None
        try:
            numbers = [int(word) for word in row.words]
        except ValueError:
            self.report(row.place, f"found '{' '.join(row.words)}'; expected ten whole numbers")
            return None
        across, down = numbers[::2], numbers[1::2]
        extent = max(max(across) - min(across), max(down) - min(down))
        if extent == 0:
            self.report(row.place, "the five points coincide")
            return None
        half = FACE_SIZE * extent / 2
        x, y = (min(across) + max(across)) / 2, (min(down) + max(down)) / 2
        return (x - half, y - half, x + half, y + half)
