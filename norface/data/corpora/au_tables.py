"""Tables of coded frames, as BP4D, BP4D+, DISFA and DISFA+ write them, and the frames they are of.

Frames are matched as whole numbers: tables write 643 where pictures are called 0643.jpg, or the
other way round, from one sequence to the next (JAA-Net's and ME-GraphAU's lists of BP4D differ so).
Nothing here raises for a damaged line: it goes to `report(place, what)`, its label stays absent.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from norface.data.corpora.numbers import to_number, whole_number
from norface.data.labels import ACTION_UNITS, unit_name
from norface.data.records import StoredPicture
from norface.data.video import SUFFIXES as VIDEO_SUFFIXES
from norface.data.video import VideoFrame, count_frames
from norface.errors import CorpusError

Report = Callable[[object, str], None]
"(place, what could not be used there)"
Pictures = Mapping[int, Path | StoredPicture]
"Frame number => its picture."

NOT_CODED = 9
"""How occurrence tables write that a unit was not coded (machanic/AU_R-CNN
dataset_toolkit/scripts/AU_intensity_index_file_gen.py; ZhiwenShao/PyTorch-JAANet util.py)."""
HIGHEST = 5
"Highest intensity (E)."

_PICTURE = re.compile(r"(?:frame_?)?(\d+)\.(?:jpe?g|png|bmp)", re.IGNORECASE)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def read_occurrence(
    path: Path, report: Report, expected: Iterable[int] = ()
) -> dict[int, dict[int, int]]:
    """Frame => unit => 0 or 1, from a table with a header; its columns are found by their names.

    The first column is the frame; the others are named by their unit ("12"). The position says
    nothing: column 3 is AU3 in BP4D and AU4 in BP4D+. 9 means not coded: absent. Units that
    labels.ACTION_UNITS does not have are skipped; of the `expected` ones, a column that is not
    there is reported.
    """
    rows = _read_csv(path, report)
    if not rows:
        return {}
    (_, header), *lines = rows
    columns = _unit_columns(path, header, report)
    if columns and (lacking := sorted(set(expected) - set(columns.values()))):
        names = ", ".join(map(unit_name, lacking))
        report(f"{path}:1", f"there is no column of {names}; not labelled in this table")
    table: dict[int, dict[int, int]] = {}
    for number, cells in lines:
        place = f"{path}:{number}"
        if len(cells) != len(header):
            report(place, f"{len(cells)} columns where the header has {len(header)}; row not used")
            continue
        if (frame := whole_number(cells[0])) is None:
            report(place, f"frame '{cells[0]}' is not a whole number; row not used")
            continue
        if frame in table:
            report(place, f"frame {frame} comes a second time; row not used")
            continue
        table[frame] = {}
        for column, unit in columns.items():
            value = whole_number(cells[column])
            if value in (0, 1):
                table[frame][unit] = int(value)
            elif value != NOT_CODED:
                report(place, f"AU{unit} is '{cells[column]}'; expected 0, 1 or 9 (not coded)")
    return table


def _unit_columns(path: Path, header: list[str], report: Report) -> dict[int, int]:
    """Position => unit, of the columns that are used; none where there is no header."""
    names = [name.strip() for name in header]
    first = whole_number(names[0])
    if first is not None and first > 0:
        report(
            f"{path}:1", f"the first column is headed '{names[0]}', not as frame: no header row?"
        )
        return {}
    columns: dict[int, int] = {}
    for position, name in enumerate(names[1:], 1):
        match = re.fullmatch(r"(?:AU)?0*(\d+)", name, re.IGNORECASE)
        if match is None:
            report(f"{path}:1", f"column '{name}' names no action unit; not used")
            continue
        unit = int(match[1])
        if unit in columns.values():
            report(
                f"{path}:1", f"the column of AU{unit} comes twice: no header row? Table not used"
            )
            return {}
        if unit in ACTION_UNITS:
            columns[position] = unit
    if not columns:
        report(f"{path}:1", "no column of a known action unit; table not used")
    return columns


def read_levels(
    path: Path,
    report: Report,
    *,
    not_coded: int | None,
    frame_of: Callable[[str], int | None] | None = None,
) -> dict[int, float]:
    """Frame => intensity 0..5, from lines "frame,intensity" (or with a space) without a header.

    not_coded: what the corpus writes where nobody coded the frame, which is then absent; None = it
    codes every frame. Anything else outside 0..5 (7, -1, NaN, a text) is reported, and absent too.
    """
    levels: dict[int, float] = {}
    seen: set[int] = set()
    for number, line in enumerate(_read_lines(path, report), 1):
        place, text = f"{path}:{number}", line.strip()
        if not text or text.startswith("#"):
            continue
        cells = re.split(r"\s*[,;]\s*|\s+", text)
        if len(cells) != 2:
            report(place, f"{len(cells)} columns; expected frame and intensity; row not used")
            continue
        frame = (frame_of or whole_number)(cells[0])
        if frame is None:
            report(place, f"frame '{cells[0]}' is not a whole number; row not used")
            continue
        if frame in seen:
            report(place, f"frame {frame} comes a second time; row not used")
            continue
        seen.add(frame)
        level = to_number(cells[1])
        if 0 <= level <= HIGHEST:
            levels[frame] = level
        elif level != not_coded:
            report(place, f"intensity '{cells[1]}' of frame {frame}; expected 0 to {HIGHEST}")
    return levels


def list_pictures(folder: Path, report: Report) -> dict[int, Path]:
    """Number => picture of a folder, by the whole number in the name: 643.jpg, 0643.jpg,
    frame_643.jpg. Other kinds of files are skipped."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
            continue
        if (number := picture_number(path.name)) is None:
            report(path, "the name is not the number of a frame; picture not used")
        elif number in found:
            report(path, f"frame {number} is also {found[number].name}; picture not used")
        else:
            found[number] = path
    return found


def holds_picture(folder: Path) -> bool:
    """Whether a folder has at least one picture named by its number."""
    return any(picture_number(path.name) is not None for path in folder.iterdir())


def picture_number(name: str) -> int | None:
    """'0643.jpg' or 'frame_643.JPG' => 643; None for what is not so named."""
    match = _PICTURE.fullmatch(name)
    return int(match[1]) if match else None


def list_video(path: Path, report: Report, *, first: int = 1) -> dict[int, VideoFrame]:
    """Number => picture of a video whose first one has the number `first`.

    Tables count a video's pictures from 1 (forever208/FMAE-IAT AU/BP4D_preprocess.py and
    AU/DISFA_preprocess.py). A video that cannot be opened has none, and is reported.
    """
    try:
        return {first + i: VideoFrame(path, i) for i in range(count_frames(path))}
    except CorpusError as error:
        report(path, str(error).removeprefix(f"{path}: "))
        return {}


def is_video(path: Path) -> bool:
    """Whether a file is named like a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def name_ranges(numbers: Iterable[int]) -> str:
    """[1, 2, 3, 7] => '1-3, 7': every one of many frames in a short line."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _read_lines(path: Path, report: Report) -> list[str]:
    """Lines of a text file; none, and a report, for what is unreadable or empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        report(path, f"cannot be read ({error.strerror}); table not used")
        return []
    except UnicodeDecodeError:
        report(path, "not a text file; table not used")
        return []
    if not text.strip():
        report(path, "an empty table")
    return text.splitlines()


def _read_csv(path: Path, report: Report) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the lines that are not empty."""
    reader = csv.reader(_read_lines(path, report))
    try:
        return [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        report(f"{path}:{reader.line_num}", f"not a csv table ({error}); table not used")
        return []
