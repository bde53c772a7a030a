"""CASIA-WebFace, as a RecordIO archive or as folders of persons.

The archive is the release of deepinsight/insightface (recognition/_datasets_/README.md) with the
layout that its recognition/arcface_torch/dataset.py reads: record 0 lists (number of pictures + 1,
number of all records); pictures have the keys from 1 on; records behind them describe identities,
each listing the first key of a person and the key behind the last one. A picture's label, or the
first of its labels, is the number of its person.

Published is what its authors name: 494,414 pictures of 10,575 persons (Yi et al., arXiv 1411.7923).
Releases that others cleaned or aligned hold a few thousand less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from norface.data.corpora.base import CorpusReader
from norface.data.corpora.naming import key_part, list_folder, number_picture
from norface.data.recordio import Header, Place, RecordFile, RecordioPicture, read_offsets
from norface.data.records import FaceRecord
from norface.errors import CorpusError

CLIP = "picture"


class WebFaceReader(CorpusReader):
    """Pictures in the order of their keys, or of their folders and names."""

    name = "webface"
    title = "CASIA-WebFace: pictures with identities, RecordIO or folders (pre-training)"
    tree = """\
ROOT/
  train.rec           RecordIO archive of pictures
  train.idx           its keys and offsets
or
ROOT/
  0000045/001.jpg     a picture of the person 0000045"""
    published = {"samples": 494_414, "subjects": 10_575}

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError for a folder that holds neither, or an archive without its idx."""
        if not self.root.is_dir():
            raise self.misses("train.rec")
        folders, _, files = list_folder(self.root)
        if any(name.lower() in ("train.rec", "train.idx") for name in files):
            yield from self.read_archive(self.need("train.rec"), self.need("train.idx"))
        elif len(folders) > 1:
            yield from self.read_folders(folders)
        else:
            # One folder of pictures is some other corpus, not one of many persons.
            raise self.misses("train.rec (or the folders of two persons or more)")

    def read_folders(self, folders: list[str]) -> Iterator[FaceRecord]:
        """One folder a person."""
        _, stray, _ = list_folder(self.root)
        for name in stray:
            self.report(self.root / name, "lies in no folder of a person; left out")
        for person in folders:
            deeper, names, others = list_folder(self.root / person)
            for name in [*deeper, *others]:
                self.report(self.root / person / name, "is no photograph")
            if not names:
                self.report(self.root / person, "holds no photograph")
            for name in names:
                clip, frame = number_picture(Path(name).stem, CLIP)
                path = self.root / person / name
                yield FaceRecord(self.name, key_part(person), clip, frame, path)

    def read_archive(self, archive: Path, index: Path) -> Iterator[FaceRecord]:
        """Every picture whose record is whole and whose label is a person's number."""
        offsets, wrong = read_offsets(index)
        for line, what in wrong:
            self.report(f"{index}:{line}", what)
        with RecordFile(archive) as file:
            found = self.peek_all(file, offsets, index)
            if 0 not in offsets:
                raise CorpusError(f"{index}: has no record 0, which tells how many pictures follow")
            if 0 not in found:
                raise CorpusError(f"{archive}: record 0 is damaged; fetch the archive again")
            head = found[0][1]
            pictures, total = self.counts(head, archive) if head.is_list else (offsets.keys(), 0)
            for key in pictures:
                if key not in offsets:
                    self.report(index, f"the key {key} is missing; record 0 tells of it")
            people: dict[int, int] = {}
            for key in pictures:
                if key not in found:
                    continue
                place, header = found[key]
                label = header.labels[0] if header.labels else math.nan
                where = RecordioPicture(archive, *place)
                if not (math.isfinite(label) and label >= 0 and label.is_integer()):
                    self.report(where, f"key {key}: the label {label} is no person's number")
                elif header.picture_size == 0:
                    self.report(where, f"key {key}: holds no picture")
                else:
                    people[key] = int(label)
                    yield FaceRecord(self.name, str(int(label)), CLIP, key, where)
            self.check_identities(found, people, archive, range(len(pictures) + 1, total))

    def peek_all(
        self, file: RecordFile, offsets: dict[int, int], index: Path
    ) -> dict[int, tuple[Place, Header]]:
        """Key => place and header. Offsets without a record, and bytes of no key, are problems."""
        found: dict[int, tuple[Place, Header]] = {}
        end = 0
        for key, offset in sorted(offsets.items(), key=lambda pair: pair[1]):
            try:
                found[key] = file.peek(offset)
            except CorpusError as error:
                self.report(f"{index}: key {key}", str(error))
                continue
            if offset > end:
                self.report(file.path, f"bytes {end} to {offset} hold nothing that {index} names")
            elif offset < end:
                self.report(f"{index}: key {key}", f"byte {offset} lies inside another record")
            end = max(end, offset + found[key][0].length)
        if end < file.size and len(found) == len(offsets):
            self.report(file.path, f"bytes {end} to {file.size} hold nothing that {index} names")
        return found

    def counts(self, head: Header, archive: Path) -> tuple[range, int]:
        """(keys of the pictures, number of all records) of record 0."""
        labels = head.labels
        if not all(math.isfinite(label) and label.is_integer() for label in labels):
            raise CorpusError(f"{archive}: record 0 lists {labels}; expected whole numbers")
        first = int(labels[0])
        if first < 2:
            raise CorpusError(f"{archive}: record 0 tells of {first - 1} pictures; found no corpus")
        return range(1, first), int(labels[1]) if len(labels) > 1 else first

    def check_identities(
        self,
        found: dict[int, tuple[Place, Header]],
        people: dict[int, int],
        archive: Path,
        keys: range,
    ) -> None:
        """Report identity records that do not describe the pictures of one person."""
        for key in keys:
            labels = found[key][1].labels if key in found else ()
            if len(labels) < 2 or not all(math.isfinite(label) for label in labels[:2]):
                self.report(archive, f"the record {key} should list a person's first and last key")
                continue
            first, last = int(labels[0]), int(labels[1])
            pictures = range(max(first, 1), min(last, keys.start))
            labels_there = {people[one] for one in pictures if one in people}
            if len(labels_there) > 1:
                self.report(
                    archive,
                    f"the record {key} says that the pictures {first} to {last - 1} show one"
                    f" person; their labels are {', '.join(map(str, sorted(labels_there)))}",
                )
