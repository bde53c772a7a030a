"""Which key of an index a picture of another tree belongs to, by its name alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from norface.data.corpora.folder import to_word
from norface.data.shards import ShardIndex

_ENDINGS = re.compile(r"-aligned$")
"What corpora append to the name of a photograph once they aligned it (RAF-DB)."

RULES = "KEY, SUBJECT_CLIP_FRAME, SUBJECT/CLIP/FRAME, SUBJECT/FRAME or the source photograph's name"
"For messages."


class KeyFinder:
    """Finds keys of one corpus by relative paths, in this order:

    1. the file's stem is a key, with its corpus or without: bp4d_F001_T1_12, F001_T1_12;
    2. the last parts of the path are subject, clip and frame: F001/T1/12;
    3. they are subject and frame, and the subject has one clip with that frame: SN001/12;
    4. the stem, or folders and stem, name a subject of one sample, as in corpora where every
       photograph is its own subject: train_00001_aligned (RAF-DB), train_set/images/7 (AffectNet).

    Frames are compared as integers, so 0012 is 12; other names in any case of letters under rule 4.
    What fits two keys fits none.
    """

    def __init__(self, index: ShardIndex, corpus: str):
        self.corpus = corpus
        self.keys = set(index.table["key"])
        self._by_frame: dict[tuple[str, int], str | None] = {}
        self._alone: dict[str, str | None] = {}
        seen: set[str] = set()
        columns = (index.table[name].astype(str) for name in ("key", "subject"))
        for key, subject, frame in zip(*columns, index.table["frame"], strict=True):
            place = subject, int(frame)
            self._by_frame[place] = None if place in self._by_frame else key
            word = subject.lower()
            self._alone[word] = None if word in seen else key
            seen.add(word)

    def find(self, path: PurePath) -> str | None:
        """The key of a picture at a relative path, None where no rule gives one."""
        parts = [*path.parts[:-1], path.stem]
        for key in self._keys_of(parts):
            if key in self.keys:
                return key
        if len(parts) > 1 and parts[-1].isdecimal():
            by_frame = self._by_frame.get((to_word(parts[-2]), int(parts[-1])))
            if by_frame is not None:
                return by_frame
        found = {self._alone.get(word) for word in self._words_of(parts)} - {None}
        return found.pop() if len(found) == 1 else None

    def _keys_of(self, parts: Sequence[str]) -> Iterator[str]:
        """Keys that rules 1 and 2 would make of a path."""
        stem = parts[-1]
        yield stem
        for words in (stem.split("_"), [to_word(part) for part in parts[-3:-1]] + [stem]):
            if words[-1].isdecimal():
                words = [*words[:-1], str(int(words[-1]))]
            yield "_".join(words)
            yield "_".join([self.corpus, *words])

    def _words_of(self, parts: Sequence[str]) -> Iterator[str]:
        """Subjects that rule 4 would make of a path: the stem, behind any of its folders or all."""
        stem = parts[-1]
        names = [stem, *(f"{folder}-{stem}" for folder in parts[:-1])]
        names += ["-".join(parts[start:]) for start in range(len(parts) - 1)]
        for name in names:
            word = to_word(name).lower()
            yield word
            yield _ENDINGS.sub("", word)
