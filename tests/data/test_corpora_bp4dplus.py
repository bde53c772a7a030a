"""BP4D+: what differs from BP4D, and pictures that stay in their archives."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bp4d_trees import pictures, read, table, write

from norface.data.archives import ZippedPicture
from norface.errors import CorpusError
from norface.images import encode_jpeg


def test_bp4dplus_has_more_people_four_coded_tasks_and_other_data_beside(tmp_path):
    columns = [0, 1, 2, *range(4, 8), *range(9, 21), *range(22, 25), 27, 28]
    rows = {2440: {24: 1}, 2441: {28: 1}}
    table(tmp_path / "AUCoding/AU_OCC/M058_T6.csv", rows, [*columns, *range(29, 40)])
    pictures(tmp_path / "2D+3D/M058/T6", "2439.jpg", "2440.jpg", "2441.jpg")
    pictures(tmp_path / "2D+3D/M058/T2", "0001.jpg")
    pictures(tmp_path / "Thermal/M058/T6", "0001.jpg")
    write(tmp_path / "Physiology/M058/T6/BP_mmHg.txt", "80\n")
    write(tmp_path / "2DFeatures/M058_T6.mat", "x")
    records, problems = read(tmp_path, corpus="bp4dplus")
    assert [record.key for record in records] == ["bp4dplus_M058_T6_2440", "bp4dplus_M058_T6_2441"]
    units = {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24}
    assert [record.presence for record in records] == [
        {unit: int(unit == 24) for unit in units}, dict.fromkeys(units, 0),
    ]  # fmt: skip
    assert problems == []
    pictures(tmp_path / "2D+3D/M058/T8", "0001.jpg")
    assert [what for _, what in read(tmp_path, corpus="bp4dplus")[1]] == [
        "there is no table M058_T8.csv; not used"
    ]


@pytest.mark.parametrize("task", [2, 3, 4, 5])
def test_a_tree_of_bp4d_is_refused_by_the_tasks_that_bp4dplus_did_not_code(tmp_path, task):
    for sequence in ("F001_T1", f"F001_T{task}"):
        table(tmp_path / f"AUCoding/{sequence}.csv", {9: {}})
        pictures(tmp_path / sequence.replace("_", "/"), "9.jpg")
    where = tmp_path / f"AUCoding/F001_T{task}.csv"
    message = f"{where}: bp4dplus has tables of T1, T6, T7, T8 only; this is of bp4d, whose F001"
    with pytest.raises(CorpusError, match=re.escape(message)):
        read(tmp_path, corpus="bp4dplus")
    assert len(read(tmp_path)[0]) == 2


def test_a_table_of_a_task_that_neither_corpus_codes_is_listed(tmp_path):
    for sequence in ("F001_T1", "F001_T9", "M058_T2"):
        table(tmp_path / f"AUCoding/AU_OCC/{sequence}.csv", {9: {}})
        pictures(tmp_path / "2D+3D" / sequence.replace("_", "/"), "9.jpg")
    records, problems = read(tmp_path, corpus="bp4dplus")
    assert [record.key for record in records] == ["bp4dplus_F001_T1_9"]
    assert {Path(place).name for place, _ in problems} == {"F001_T9.csv", "M058_T2.csv"}


def test_archives_are_read_where_they_are_and_a_folder_goes_before_its_archive(tmp_path):
    for person in ("F001", "F002", "F003"):
        table(tmp_path / f"AUCoding/AU_OCC/{person}_T1.csv", {9: {}, 10: {}})
    for person, first in (("F001", ""), ("F002", "F002/"), ("F003", "F003/")):
        (tmp_path / "2D+3D").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / f"2D+3D/{person}.zip", "w") as archive:
            for name in ("T1/0009.jpg", "T1/0010.JPG", "T1/0009.obj", "T2/0001.jpg", "readme.txt"):
                pixels = np.full((8, 8, 3), 10 * int(person[1:]) + len(name), np.uint8)
                archive.writestr(first + name, encode_jpeg(pixels))
    pictures(tmp_path / "2D+3D/F003/T1", "9.jpg", "10.jpg")
    write(tmp_path / "2D+3D/M001.zip", "no archive")
    records, problems = read(tmp_path, corpus="bp4dplus")
    assert [record.image for record in records] == [
        ZippedPicture(tmp_path / "2D+3D/F001.zip", "T1/0009.jpg"),
        ZippedPicture(tmp_path / "2D+3D/F001.zip", "T1/0010.JPG"),
        ZippedPicture(tmp_path / "2D+3D/F002.zip", "F002/T1/0009.jpg"),
        ZippedPicture(tmp_path / "2D+3D/F002.zip", "F002/T1/0010.JPG"),
        tmp_path / "2D+3D/F003/T1/9.jpg",
        tmp_path / "2D+3D/F003/T1/10.jpg",
    ]
    assert [record.image.read().mean() for record in records[:4:2]] == [21, 31]
    assert [(Path(place).name, what.split("(")[0]) for place, what in problems] == [
        ("F003.zip", f"{tmp_path}/2D+3D/F003/T1 shows F003_T1 too; not used"),
        ("M001.zip", "not a zip archive, or damaged "),
    ]
