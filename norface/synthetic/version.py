"""Which renderer drew a face: critics know only faces of the renderer that they were trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from norface.errors import ConfigError, CorpusError

RENDERER_VERSION = 4
"""Raised with every change of what the embedded corpus looks like. The critics that ship are then
trained again (configs/critic/), and shards are written again."""

ANY_RENDERER = "any"
"Version that a critic names which was trained on no synthetic face."

CARD_NAME = "corpus.json"
"What a folder of synthetic shards holds; written by `norface synth`."


def renderer_of(folders: Sequence[Path]) -> int | None:
    """Version that folders of shards were drawn with; None where no folder says.

    Cards from before there were versions count as 1. Raises CorpusError for folders of several
    versions, and for a card that cannot be read.
    """
    # Heavy, and most who import this module want the number alone.
    from norface.data.indexing import find_rehearsal

    found = {}
    for folder in folders:
        if (rehearsal := find_rehearsal(folder)) is not None:
            found[rehearsal.renderer] = folder
    for path in (folder / CARD_NAME for folder in folders):
        if path.is_file():
            try:
                found[int(json.loads(path.read_text(encoding="utf-8")).get("renderer", 1))] = path
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise CorpusError(
                    f"{path}: not a card of synthetic shards ({error}); write them again with"
                    " `norface synth`"
                ) from None
    if len(found) > 1:
        told = ", ".join(f"{path} by version {number}" for number, path in sorted(found.items()))
        raise CorpusError(
            f"shards of several renderers: {told}; write the older ones again with `norface synth`"
        )
    return next(iter(found), None)


def check_drawn(folders: list[Path]) -> None:
    """Raises ConfigError for shards of another renderer than this one, whose faces its critics do
    not know."""
    version = renderer_of(folders)
    if version not in (None, RENDERER_VERSION):
        raise ConfigError(
            f"data.shards: {' + '.join(map(str, folders))} was drawn by renderer {version}, and"
            f" the critics of synthetic faces know renderer {RENDERER_VERSION}; write the shards"
            " again with `norface synth`"
        )
