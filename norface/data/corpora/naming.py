"""Names on a disk => parts of keys, the same on every machine and whatever lies beside them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePath

from norface.data.corpora.folder import SUFFIXES


def key_part(name: str) -> str:
    """`name` where a key can hold it, else a legible form of it with a digest.

    Signs other than letters, digits, + and - become -, and the first 8 hex digits of the sha1 of
    the name in UTF-8 follow: two names stay two, and no other file decides what a name becomes.
    """
    legible = re.sub(r"[^A-Za-z0-9+-]+", "-", name)
    if legible == name and name:
        return name
    # A file name that is no UTF-8 comes with surrogates from the file system.
    digest = hashlib.sha1(name.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return f"{legible.strip('-') or 'x'}-{digest.hexdigest()[:8]}"


def number_picture(stem: str, clip: str) -> tuple[str, int]:
    """(clip, frame) of a picture's file name: its number, or a clip of its own for other names.

    0012 => (`clip`, 12); blurred => ("blurred", 0).
    """
    if stem.isascii() and stem.isdigit():
        return clip, int(stem)
    return key_part(stem), 0


def list_folder(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of (folders, photographs, other files) in a folder, each sorted; no hidden ones."""
    folders, photographs, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                photographs.append(entry.name)
            else:
                others.append(entry.name)
    return sorted(folders), sorted(photographs), sorted(others)


def path_part(path: PurePath) -> str:
    """A relative path without its suffix as part of a key: joyful/0012.jpg => joyful+0012."""
    names = path.with_suffix("").parts
    if any("+" in name for name in names):
        return key_part(path.with_suffix("").as_posix())
    joined = "+".join(names)
    return joined if key_part(joined) == joined else key_part(path.with_suffix("").as_posix())
