"""`norface analyze` and its five lines of Python."""

import csv
import importlib.util
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from small_networks import write_classifier, write_generator

from norface import Analyzer
from norface.cli.main import main
from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.errors import ConfigError, CorpusError
from norface.files import file_sha256
from norface.images import encode_jpeg, read_photo, resize_pixels, to_image, to_pixels, write_png
from norface.models.classifier import load_classifier
from norface.models.mediapipe import find_task_file
from norface.models.normalizer import load_generator
from norface.synthetic.corpus import FaceParameters, render

needs_mediapipe = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs MediaPipe's file and the package tflite",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small networks, a target at rest and three aligned faces, one of them a video's."""
    root = tmp_path_factory.mktemp("analyze")
    write_generator(root / "generator.safetensors")
    (root / "photos").mkdir()
    for number in (3, 4):
        pixels = render(FaceParameters(200000 + number, intensity={12: 4.0}), 128).pixels
        write_png(root / "photos" / f"face{number}.png", pixels)
    write_png(root / "target.png", render(FaceParameters(200009), 64).pixels)
    made = {"generator": root / "generator.safetensors", "target": root / "target.png"}
    for task, streams in (("au", 2), ("intensity", 2), ("emotion", 1)):
        write_classifier(root / f"{task}.safetensors", task, streams=streams, **made)
    return root


def test_five_lines_say_what_the_networks_say(files):
    photo = files / "photos" / "face3.png"
    analyze = Analyzer(
        generator=files / "generator.safetensors", target=files / "target.png", aligned=True,
        classifier=[files / "au.safetensors", files / "emotion.safetensors"], check_target=False,
    )  # fmt: skip
    face = analyze(photo)
    model, _ = load_generator(files / "generator.safetensors")
    original, target = (
        to_image(resize_pixels(read_photo(path), 32))[None]
        for path in (photo, files / "target.png")
    )
    with torch.no_grad():
        expected = to_pixels(model(original, target))[0]
        classifier, _ = load_classifier(files / "au.safetensors")
        probabilities = classifier([original, to_image(expected)[None]])[0].sigmoid()[0]
    np.testing.assert_array_equal(face.normalized, expected)
    found = [face.action_units[unit].probability for unit in (1, 12, 25)]
    assert found == pytest.approx(probabilities.tolist(), abs=1e-4)
    assert sum(face.emotions.values()) == pytest.approx(1, abs=1e-3)
    assert face.emotion == max(face.emotions, key=face.emotions.get)


def test_one_of_the_two_halves_is_enough(files):
    photo = files / "photos" / "face3.png"
    only = Analyzer(
        generator=files / "generator.safetensors", target=files / "target.png", aligned=True,
        check_target=False,
    )(photo)  # fmt: skip
    assert only.normalized.shape == (32, 32, 3) and not only.action_units and only.emotion is None
    read = Analyzer(classifier=files / "emotion.safetensors", aligned=True)(photo)
    assert read.normalized is None and len(read.emotions) == 3
    with pytest.raises(ConfigError, match="give a generator, a classifier or both"):
        Analyzer()
    with pytest.raises(ConfigError, match="generator and target belong together"):
        Analyzer(generator=files / "generator.safetensors", aligned=True)
    with pytest.raises(ConfigError, match="reads 1 normalized faces beside the original"):
        Analyzer(classifier=files / "au.safetensors", aligned=True)


@pytest.mark.parametrize("task, told", [("au", "au of AU1"), ("emotion", "emotion")])
def test_two_classifiers_that_tell_the_same_are_refused(tmp_path, task, told):
    one, other = (write_classifier(tmp_path / f"{n}.safetensors", task, streams=1) for n in "ab")
    with pytest.raises(ConfigError, match=f"a.safetensors and .*b.safetensors both tell {told};"):
        Analyzer(classifier=[one, other], aligned=True)
    third = write_classifier(tmp_path / "c.safetensors", "intensity", streams=1)
    assert len(Analyzer(classifier=[one, third], aligned=True).classifiers) == 2


def test_a_classifier_of_another_generator_or_target_is_refused(files, tmp_path):
    write_generator(tmp_path / "other.safetensors", person="S8")
    write_png(tmp_path / "other.png", render(FaceParameters(200008), 64).pixels)
    generator, target = files / "generator.safetensors", files / "target.png"
    given = {"classifier": files / "au.safetensors", "aligned": True, "check_target": False}
    digest = file_sha256(generator)[:12]
    with pytest.raises(ConfigError, match=f"with faces of generator {digest}; .*other.safetensors"):
        Analyzer(generator=tmp_path / "other.safetensors", target=target, **given)
    with pytest.raises(ConfigError, match="on the target rest as stream 1; .* give target.png of"):
        Analyzer(generator=generator, target=tmp_path / "other.png", **given)
    Analyzer(generator=generator, target=target, **given)


class Bomb:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_pickles_and_cut_files_are_refused_in_one_line_and_not_run(files, tmp_path, capsys):
    code, cut = tmp_path / "code.pth", tmp_path / "cut.safetensors"
    torch.save({"model": Bomb(tmp_path / "made")}, code)
    cut.write_bytes((files / "generator.safetensors").read_bytes()[:3000])
    face, target = str(files / "photos" / "face3.png"), str(files / "target.png")
    for words in (
        ["--classifier", str(code)],
        ["--classifier", str(cut)],
        ["--generator", str(code), "--target", target],
        ["--generator", str(cut), "--target", target],
    ):
        assert main(["analyze", face, "--aligned", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words[1] in error
    assert not (tmp_path / "made").exists()


def test_command_line_writes_pictures_tables_and_says_what_was_odd(files, tmp_path, capsys):
    (tmp_path / "wide.png").write_bytes(b"no picture")
    words = [str(files / "photos"), str(tmp_path / "wide.png"), "--aligned", "--any-target",
             "--generator", str(files / "generator.safetensors"),
             "--target", str(files / "target.png"), "--classifier", str(files / "au.safetensors"),
             str(files / "intensity.safetensors"), "--out", str(tmp_path / "out"),
             "--csv", str(tmp_path / "found.csv"),
             "--json", str(tmp_path / "found.json")]  # fmt: skip
    assert main(["analyze", *words]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    assert shown.err == f"{tmp_path / 'wide.png'}: not a picture in a known format\n"
    pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pictures == ["0001-face3-png.png", "0002-face4-png.png"]
    assert read_photo(tmp_path / "out" / pictures[0]).shape[1] > 600
    values = json.loads((tmp_path / "found.json").read_text())
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert len(values) == len(rows) == 2
    unit = values[0]["action_units"]["AU12"]
    assert (float(rows[0]["AU12"]), float(rows[0]["AU12_intensity"])) == tuple(unit.values())
    assert rows[0]["AU26_intensity"] and "AU26" not in rows[0] and "AU1_intensity" not in rows[0]
    assert main(["analyze", str(tmp_path / "nobody.png"), "--aligned"]) == 2
    assert "nobody.png: no such file or folder" in capsys.readouterr().err
    assert main(["analyze", *words[:3]]) == 2


def test_every_nth_picture_of_a_video_is_read(files, tmp_path, capsys):
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(5):
        film.write(cv2.imread(str(files / "target.png")))
    film.release()
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    words = ["analyze", str(tmp_path), "--classifier", str(files / "emotion.safetensors"),
             "--aligned", "--no-pictures", "--every", "2"]  # fmt: skip
    assert main(words) == 1
    shown = capsys.readouterr()
    assert [line.partition(": ")[0] for line in shown.out.splitlines()] == [
        f"{path}:{frame}" for frame in (0, 2, 4)
    ]
    assert "broken.mp4: not a video in a known format" in shown.err


@needs_mediapipe
def test_faces_are_found_aligned_and_counted(files, tmp_path):
    one, two = (render(FaceParameters(number), 160).pixels for number in (200001, 200002))
    photo = np.full((240, 480, 3), 128, np.uint8)
    photo[40:200, 20:180], photo[40:200, 280:440] = one, two
    analyze = Analyzer(classifier=files / "emotion.safetensors")
    faces = analyze.find_faces(photo, most=5)
    assert len(faces) == 2 and {face.faces for face in faces} == {2}
    assert all(face.aligned.shape == (256, 256, 3) for face in faces)
    assert len(analyze.find_faces(photo)) == 1
    with pytest.raises(CorpusError, match="wall: no face found in 64x64"):
        analyze.find_faces(np.full((64, 64, 3), 99, np.uint8), name="wall")
    # The target may be any photograph of a face; one that acts is refused.
    smile = render(FaceParameters(200009, intensity={6: 4.0, 12: 5.0, 25: 4.0}), 128).pixels
    write_png(tmp_path / "smile.png", smile)
    with pytest.raises(CorpusError, match="smile.png: is no target"):
        Analyzer(generator=files / "generator.safetensors", target=tmp_path / "smile.png")


def test_importing_norface_loads_no_network_code():
    code = "import sys, norface; print('torch' in sys.modules, norface.__version__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("False 0.")


def test_files_and_folders_of_the_wrong_kind_say_what_they_are(files, tmp_path, capsys):
    run, shards = tmp_path / "run", tmp_path / "shards"
    run.mkdir()
    write_generator(run / "generator.safetensors")
    with ShardWriter(shards, side=16) as writer:
        picture = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
        writer.write(FaceRecord("bp4d", "F001", "T1", 0, picture))
    photo, target = str(files / "photos" / "face3.png"), f"--target={files / 'target.png'}"
    for words, said in (
        (
            [photo, target, f"--generator={files / 'au.safetensors'}"],
            "is a classifier's file; give",
        ),
        ([photo, target, f"--generator={run}"], f"{run}: is a folder; give {run}/generator.safet"),
        ([photo, f"--classifier={run / 'generator.safetensors'}"], "is a generator's file; give"),
        ([str(shards), f"--classifier={files / 'emotion.safetensors'}"], "is a folder of shards"),
    ):
        assert main(["analyze", *words, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
