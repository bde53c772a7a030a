"""Synthetic faces as BP4D+: the oddities of BP4D, ten tasks of which four are coded, other columns.

The columns of an occurrence table are not at their unit's number, and folders of other data stand
beside the photographs (ubicomplab/rPPG-Toolbox dataset/data_loader/BP4DPlusBigSmallLoader.py). The
photographs of every second person are still in the archive that they came in.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.bp4d import HandOut, write_hand_out
from norface.synthetic.layouts.sequences import draw_photographs

BP4D_PLUS = HandOut(
    corpus="bp4dplus",
    subjects=[f"F{n:03d}" for n in range(1, 83)] + [f"M{n:03d}" for n in range(1, 59)],
    coded_tasks=(1, 6, 7, 8),
    columns=(1, 2, 4, 5, 6, 7, *range(9, 21), 22, 23, 24, *range(27, 40)),
    occurrence="AUCoding/AU_OCC",
    intensity="AUCoding/AU_INT",
    pictures="2D+3D",
    films=((0, 6, "F001_T6.avi"),),
)
UNCODED_TASKS = (2, 3, 4, 5, 9, 10)


def write_bp4dplus(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """BP4D+, half of it unpacked. Returns what a reader must find."""
    (root / BP4D_PLUS.pictures).mkdir()
    found = write_hand_out(root, settings, BP4D_PLUS)
    one = settings.model_copy(update={"frames": 1})
    for person, subject in enumerate(BP4D_PLUS.subjects[: settings.subjects]):
        ((pixels, _),) = draw_photographs(one, person)
        for task in UNCODED_TASKS:
            folder = root / BP4D_PLUS.pictures / subject / f"T{task}"
            folder.mkdir(parents=True)
            (folder / "0001.jpg").write_bytes(encode_jpeg(pixels))
            physiology = root / "Physiology" / subject / f"T{task}"
            physiology.mkdir(parents=True)
            (physiology / "BP_mmHg.txt").write_text("80.1\n", encoding="utf-8")
        if person % 2:
            _pack(root / BP4D_PLUS.pictures / subject)
    return found


def _pack(folder: Path) -> None:
    """FOLDER/T1/0001.jpg => FOLDER.zip with F002/T1/0001.jpg; the folder goes."""
    with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    shutil.rmtree(folder)
