"""Where the photographs of a person's task are in BP4D and BP4D+: a folder, a film, an archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from norface.data.archives import ZippedPicture, list_members
from norface.data.corpora.au_tables import (
    Pictures,
    Report,
    holds_picture,
    is_video,
    list_pictures,
    list_video,
    picture_number,
)
from norface.errors import CorpusError

_SUBJECT = re.compile(r"([FM]\d{3})", re.IGNORECASE)
_TASK = re.compile(r"T0?(\d+)", re.IGNORECASE)
_SEQUENCE = re.compile(r"2?([FM])(\d{2,3})_(T?)(\d+)", re.IGNORECASE)


class Sequence(NamedTuple):
    """One person in one task."""

    subject: str
    task: int

    def __str__(self) -> str:
        return f"{self.subject}_T{self.task}"


class Place(NamedTuple):
    """A folder of pictures, a film, or a person's archive with the names of a task's pictures."""

    path: Path
    members: tuple[str, ...] = ()

    def pictures(self, report: Report) -> Pictures:
        """Frame => picture; the n-th picture of a film is frame n."""
        if self.members:
            return self._zipped(report)
        if self.path.is_dir():
            return list_pictures(self.path, report)
        return list_video(self.path, report)

    def _zipped(self, report: Report) -> Pictures:
        found: dict[int, ZippedPicture] = {}
        for member in self.members:
            picture = ZippedPicture(self.path, member)
            number = picture_number(member.rpartition("/")[2])
            assert number is not None, "only numbered pictures are listed"
            if number in found:
                report(picture, f"frame {number} is also {found[number].member}; not used")
            else:
                found[number] = picture
        return found


def list_sequences(
    folder: Path, sessions: Mapping[int, int], report: Report
) -> Iterator[tuple[Sequence | None, Place]]:
    """Everything in a folder that is named like a sequence and has pictures, folders first.

    F001/T1/2440.jpg, 2F01_T5.avi and the like, F001.zip with T1/2440.jpg in it, at any depth
    (ubicomplab/rPPG-Toolbox dataset/data_loader/BP4DPlusBigSmallLoader.py). None: a film or folder
    whose session number is not in `sessions`.
    """
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name)):
        whole_name = path.name if path.is_dir() else path.stem
        if _SUBJECT.fullmatch(whole_name):
            subject = whole_name.upper()
            if path.is_dir():
                yield from _list_tasks(path, subject)
            elif path.suffix.lower() == ".zip":
                yield from _list_archive(path, subject, report)
        elif match := _SEQUENCE.fullmatch(whole_name):
            if not (holds_picture(path) if path.is_dir() else is_video(path)):
                continue
            number = int(match[4])
            task = number if match[3] else sessions.get(number)
            subject = f"{match[1].upper()}{int(match[2]):03d}"
            yield None if task is None else Sequence(subject, task), Place(path)


def _list_tasks(folder: Path, subject: str) -> Iterator[tuple[Sequence, Place]]:
    for path in sorted(folder.iterdir()):
        match = _TASK.fullmatch(path.name)
        if match and path.is_dir() and holds_picture(path):
            yield Sequence(subject, int(match[1])), Place(path)


def _list_archive(path: Path, subject: str, report: Report) -> Iterator[tuple[Sequence, Place]]:
    """The tasks of a person's archive."""
    try:
        members = list_members(path)
    except CorpusError as error:
        report(path, str(error).removeprefix(f"{path}: "))
        return
    tasks: dict[int, list[str]] = {}
    for member in members:
        *_, folder, name = ["", *member.split("/")]
        match = _TASK.fullmatch(folder)
        if match and picture_number(name) is not None:
            tasks.setdefault(int(match[1]), []).append(member)
    for task, names in sorted(tasks.items()):
        yield Sequence(subject, task), Place(path, tuple(names))
