"""Targets are looked at before they are used."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from norface.data.labels import ACTION_UNITS
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import CorpusError
from norface.evaluation.unit_readers import (
    MediapipeReader,
    PackagedReader,
    choose_reader,
    to_intensity,
)
from norface.images import encode_jpeg
from norface.models.mediapipe import BLENDSHAPES, find_task_file
from norface.synthetic.corpus import FaceParameters, Light, make_record, render, write_corpus
from norface.targets import (
    active_units,
    check_file,
    check_row,
    choose_candidates,
    choose_in_clip,
    labelled_units,
)

needs_mediapipe = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs MediaPipe's file and the package tflite",
)
FACE = FaceParameters(200003, light=Light(azimuth=0.0))
SMILE = dataclasses.replace(FACE, intensity={6: 4.0, 12: 5.0, 25: 4.0})


def write_faces(folder, faces):
    """Shards of (subject, parameters, labels) in their order."""
    with ShardWriter(folder, side=64) as writer:
        for frame, (corpus, subject, parameters, labels) in enumerate(faces):
            image = encode_jpeg(render(parameters, 64).pixels)
            writer.write(FaceRecord(corpus, subject, "c", frame, image=image, **labels))
    return ShardIndex.open(folder)


def test_blendshapes_at_rest_are_zero_and_full_ones_are_five():
    rest, full = np.zeros((1, 52)), np.ones((1, 52))
    assert to_intensity(rest).max() == 0
    np.testing.assert_allclose(to_intensity(full), 5)
    smile = rest.copy()
    smile[0, BLENDSHAPES.index("mouthSmileLeft")] = 1.0
    column = MediapipeReader.units.index(12)
    # Half of the mouth: (0.5 - 0.05) of 0.95.
    assert to_intensity(smile)[0, column] == pytest.approx(5 * 0.45 / 0.95)


def test_a_smile_is_seen_and_a_face_at_rest_shows_nothing():
    reader = PackagedReader()
    assert active_units(render(FACE, 64).pixels, reader) == {}
    seen = active_units(render(SMILE, 64).pixels, reader)
    assert {12, 25} <= set(seen) and list(seen.values()) == sorted(seen.values(), reverse=True)


@needs_mediapipe
def test_mediapipe_reads_smile_and_turn_of_a_head():
    turned = dataclasses.replace(FACE, pose=(20.0, 0.0, 0.0))
    faces = [render(one, 128) for one in (FACE, SMILE, turned)]
    pixels = np.stack([face.pixels for face in faces])
    reader = choose_reader("auto", {"disfa", "synthetic"})
    found = reader.read(pixels)
    smile = reader.units.index(12)
    assert found.intensity[1, smile] > 2 > found.intensity[0, smile]
    assert found.pose[2, 0] == pytest.approx(faces[2].pose[0], abs=7)
    assert found.pose[0, 0] == pytest.approx(faces[0].pose[0], abs=4)


def test_labels_of_a_row_decide_and_an_emotion_counts_where_no_unit_is_labelled(tmp_path):
    index = write_faces(
        tmp_path,
        [
            ("a", "s1", FACE, {"presence": {12: 1, 4: 0}}),
            ("a", "s2", FACE, {"intensity": {12: 1.0}, "presence": {12: 0}}),
            ("a", "s3", FACE, {"emotion": "sadness"}),
            ("a", "s4", FACE, {}),
            ("synthetic", "s5", SMILE, {"intensity": {unit: 0.0 for unit in ACTION_UNITS}}),
        ],
    )
    labels = [labelled_units(index, row) for row in range(5)]
    assert labels == [{12: 2.0}, {}, {0: 2}, None, {}]
    with pytest.raises(CorpusError, match="a_s1_c_0: is no target, it is labelled AU12 at 2.0"):
        check_row(index, "a_s1_c_0")
    with pytest.raises(CorpusError, match="an emotion that is not neutral"):
        check_row(index, "a_s3_c_2")
    # Labels of synthetic faces are exact, whatever a reader says.
    check_row(index, "synthetic_s5_c_4")


@needs_mediapipe
def test_a_picture_file_must_show_a_face_at_rest():
    grey = np.full((64, 64, 3), 90, np.uint8)
    with pytest.raises(CorpusError, match="wall.png: is no target, no face is found"):
        check_file("wall.png", grey, {"synthetic"})
    with pytest.raises(CorpusError, match="smile.png: is no target, packaged reader .* AU12"):
        check_file("smile.png", render(SMILE, 64).pixels, {"synthetic"})
    check_file("rest.png", render(FACE, 64).pixels, {"synthetic"})
    with pytest.raises(CorpusError, match="MediaPipe blendshapes sees .*AU12"):
        check_file("smile.png", render(SMILE, 128).pixels, {"celeba"})


def test_without_a_reader_of_photographs_it_says_what_was_not_looked_at(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("norface.evaluation.unit_readers.find_task_file", lambda: None)
    index = write_faces(tmp_path, [("bp4d", "F1", SMILE, {})])
    check_row(index, "bp4d_F1_c_0")
    assert "bp4d_F1_c_0: whether it is at rest was not looked at" in caplog.text


def test_candidates_are_one_a_person_the_straight_and_evenly_lit_first(tmp_path):
    side_lit = dataclasses.replace(FACE, light=Light(azimuth=75.0, strength=1.3, ambient=0.15))
    turned = dataclasses.replace(FACE, pose=(25.0, 0.0, 0.0))
    rest = {"intensity": {unit: 0.0 for unit in ACTION_UNITS}}
    smile = {"intensity": {unit: 4.0 * (unit == 12) for unit in ACTION_UNITS}}
    index = write_faces(
        tmp_path,
        [
            ("synthetic", "turned", turned, rest),
            ("synthetic", "lit", side_lit, rest),
            ("synthetic", "good", turned, rest),
            ("synthetic", "good", FACE, rest),
            ("synthetic", "smiles", SMILE, smile),
        ],
    )
    found = choose_candidates(index, count=10, reader=PackagedReader())
    assert found[0].key == "synthetic_good_c_3"
    assert {one.key for one in found[1:]} == {"synthetic_turned_c_0", "synthetic_lit_c_1"}
    assert found[0].unevenness < next(one for one in found if "lit" in one.key).unevenness
    only = index.select(where=index.table["subject"].to_numpy() == "smiles")
    with pytest.raises(CorpusError, match="no face at rest"):
        choose_candidates(only, reader=PackagedReader())


def test_a_synthetic_record_at_rest_passes(tmp_path):
    record = make_record("folds", 0, 0, side=32)
    with ShardWriter(tmp_path, side=32) as writer:
        writer.write(record)
    active = {unit for unit, value in record.presence.items() if value}
    index = ShardIndex.open(tmp_path)
    assert set(labelled_units(index, 0)) == active


def test_the_target_is_the_picture_at_rest_that_looks_as_its_clip_does(tmp_path):
    write_corpus(tmp_path, pool="normalizer", subjects=8, frames=12, side=32)
    index = ShardIndex.open(tmp_path)
    key = choose_in_clip(index)
    records = [index.read_record(row) for row in range(len(index))]
    resting = [record for record in records if not sum(record.intensity.values())]
    assert 1 < len(resting) < len(records)
    usual = [np.mean([record.pose[axis] for record in records]) for axis in range(3)]
    away = {
        record.key: sum(abs(angle - mean) for angle, mean in zip(record.pose, usual, strict=True))
        for record in resting
    }
    assert away[key] == min(away.values())


def test_a_clip_without_a_face_at_rest_is_refused(tmp_path):
    smiling = [("synthetic", "a", SMILE, {"intensity": {12: 5.0}})]
    with pytest.raises(CorpusError, match="no picture has all intensities at 0"):
        choose_in_clip(write_faces(tmp_path, smiling))
