"""DISFA+: nine persons of DISFA again, acting, 12 action units with intensities in every frame.

Mavadati et al., Extended DISFA, CVPR Workshops 2016. Labels/SN001/TRIAL/AU1.txt has a line
"picture intensity" for each frame, Images/SN001/TRIAL/ the pictures (cosanlab/py-feat
feat/evaluation/datasets.py). Aligned/ is not read: faces are aligned here.

All nine persons are in DISFA too: see folds.find_same_people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from norface.data.corpora.au_tables import list_pictures, name_ranges
from norface.data.corpora.base import CorpusReader, find_path
from norface.data.corpora.disfa import UNITS, join_levels, presence_of
from norface.data.corpora.numbers import whole_number
from norface.data.records import FaceRecord

SUBJECTS = tuple(f"SN{number:03d}" for number in (1, 3, 4, 7, 9, 10, 13, 25, 27))
"Names of the nine persons, the same as in DISFA (py-feat feat/evaluation/datasets.py)."


class DisfaPlusReader(CorpusReader):
    """The frames of DISFA+, by person, trial and frame."""

    name = "disfaplus"
    title = "DISFA+: nine persons of DISFA, acting, 12 action units with intensities"
    tree = """\
ROOT/
  Labels/SN001/TRIAL/AU1.txt ... AU26.txt
  Images/SN001/TRIAL/000.jpg"""
    published = {"subjects": 9}

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError without Labels or Images."""
        labels, pictures = self.need("Labels"), self.need("Images")
        for of_subject in sorted(path for path in labels.iterdir() if path.is_dir()):
            subject = of_subject.name.upper()
            if subject not in SUBJECTS:
                self.report(of_subject, f"{of_subject.name} is not in DISFA+; not used")
                continue
            for trial in sorted(path for path in of_subject.iterdir() if path.is_dir()):
                place = find_path(pictures, f"{of_subject.name}/{trial.name}")
                yield from self._read_trial(subject, trial, place)

    def _read_trial(self, subject: str, trial: Path, place: Path | None) -> Iterator[FaceRecord]:
        tables = {unit: path for unit in UNITS if (path := find_path(trial, f"AU{unit}.txt"))}
        if not tables:
            self.report(trial, "there is no AU1.txt; not used")
            return
        images = {} if place is None else list_pictures(place, self.report)
        coded = join_levels(tables, self.report, frame_of=_number_of_picture)
        if lost := coded.keys() - images.keys():
            where = "there are no pictures" if place is None else f"no picture in {place}"
            self.report(trial, f"{len(lost)} coded frames not used, {where}: {name_ranges(lost)}")
        clip = re.sub(r"[^A-Za-z0-9+-]+", "-", trial.name).strip("-") or "x"
        for frame in sorted(coded.keys() & images.keys()):
            intensity = coded[frame]
            yield FaceRecord(
                self.name,
                subject,
                clip,
                frame,
                images[frame],
                presence=presence_of(intensity),
                intensity=intensity,
            )


def _number_of_picture(name: str) -> int | None:
    """'012.jpg' or '12' => 12."""
    return whole_number(Path(name).stem)
