"""Folders in the layout of BP4D, as small as they can be."""

from norface.data.corpora.base import open_corpus
from norface.data.labels import DETECTION_UNITS

COLUMNS = [*range(0, 25)]
"Headers of a BP4D table: the frame under 0, every unit at its own position."


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def table(path, rows, columns=COLUMNS, default=0):
    """An occurrence table; rows: frame => unit => what is written."""
    lines = [",".join(map(str, columns))]
    for frame, codes in rows.items():
        lines.append(",".join(str(codes.get(u, default)) if u else str(frame) for u in columns))
    return write(path, "\n".join(lines) + "\n")


def with_rest(text):
    """A table of the units 1, 2, 4 and 12 => the same with columns of all others, all 0."""
    header, *rows = text.splitlines()
    others = [unit for unit in DETECTION_UNITS["bp4d"] if unit not in (1, 2, 4, 12)]
    rest = "," + ",".join(map(str, others))
    lines = [header + rest, *(row and row + ",0" * len(others) for row in rows)]
    return "\n".join(lines) + "\n"


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"picture")


def read(root, *options, corpus="bp4d"):
    reader = open_corpus(corpus, root, options)
    return list(reader.read()), reader.problems


def by_frame(records):
    return {record.frame: record for record in records}
