"""Preparation at scale: any number of jobs, processes and stops ends in the same bytes."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from disks import remount, small_disk
from folder_digests import digests
from PIL import Image
from square_detector import SquareChoice, paint

from norface.data.corpora.base import Problem
from norface.data.pictures import cut_pieces
from norface.data.preparation import PreparationConfig, make_plan, prepare_shards
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.images import write_png

PROBLEMS = [Problem("labels.csv:7", "AU12 is 7")]


@dataclass(frozen=True)
class DrawnFrame:
    """A picture that lies nowhere: number => a square of that red."""

    number: int

    def read(self):
        if self.number == 13:
            raise CorpusError(f"{self}: cannot be decoded")
        black = np.zeros((96, 96, 3), np.uint8)
        return paint(black, 16, 16, 64, (self.number * 5 % 250, 0, 0))

    def __str__(self):
        return f"video.avi, frame {self.number}"


@pytest.fixture
def choice(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"none")
    return SquareChoice("square", weights)


def frames(count=30):
    """Of two clips; 13 is damaged, 4 has no face, 20 to 24 (a whole block) have none either."""
    for number in range(count):
        image = DrawnFrame(number)
        if number == 4 or 20 <= number < 25:
            image = b"no picture"
        yield FaceRecord("c", "S", f"clip{number // 15}", number, image, presence={12: number % 2})


def run(out, choice, *, parts=("1/1",), workers=1, records=frames, **settings):
    config = PreparationConfig(side=32, samples_per_shard=5, **settings)
    plan = make_plan(records(), config, choice)
    for part in parts:
        summary = prepare_shards(
            records(), out, plan, choice, workers=workers, part=part, problems=PROBLEMS
        )
    return summary


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_stored_pictures_and_bytes_are_aligned_and_what_fails_is_listed(tmp_path, choice):
    summary = run(tmp_path / "out", choice)
    assert (summary.kept, summary.rejected, summary.finished) == (23, 7, True)
    index = ShardIndex.open(tmp_path / "out")
    kept = [n for n in range(30) if n not in (4, 13, 20, 21, 22, 23, 24)]
    assert list(index.table["frame"]) == kept
    assert list(index.labels("au", [12])[:, 0]) == [n % 2 for n in kept]
    for row, number in enumerate(kept):
        red = index.read_pixels(row)[12:20, 12:20, 0].mean()
        assert abs(red - number * 5 % 250) < 4, number
    # Block 4 (20..24) has no face and so no shard; no other number moved up.
    assert {path.name for path in index.shard_paths} == {
        f"shard-00000{block}.tar" for block in (0, 1, 2, 3, 5)
    }
    bad = [f"c_S_clip{n // 15}_{n}" for n in (4, *range(20, 25))]
    rows = [[key, key, "not a picture in a known format"] for key in bad]
    rows.insert(1, ["video.avi, frame 13", "c_S_clip0_13", "cannot be decoded"])
    head = [["path", "key", "reason"], ["labels.csv:7", "", "AU12 is 7"]]
    assert read_csv(tmp_path / "out" / "rejects.csv") == head + rows


def test_parts_in_any_order_and_number_give_the_bytes_of_one_job(tmp_path, choice):
    run(tmp_path / "one", choice)
    for name, parts in (("a", ("1/3", "2/3", "3/3")), ("b", ("4/4", "2/4", "3/4", "1/4"))):
        run(tmp_path / name, choice, parts=parts)
        assert digests(tmp_path / name) == digests(tmp_path / "one")
    # More jobs than blocks, and one without a part that does what is left.
    run(tmp_path / "c", choice, parts=("7/9", "2/9", "1/1"))
    assert digests(tmp_path / "c") == digests(tmp_path / "one")


def test_a_part_that_is_not_the_last_writes_no_index_and_leaves_no_loose_end(tmp_path, choice):
    summary = run(tmp_path / "out", choice, parts=("2/3",))
    assert (summary.finished, summary.kept, summary.rejected) == (False, 5, 5)
    with pytest.raises(CorpusError, match="missing beside its tars"):
        ShardIndex.open(tmp_path / "out")
    summary = run(tmp_path / "out", choice, parts=("1/3", "3/3"))
    assert (summary.finished, summary.kept) == (True, 23)
    assert not list((tmp_path / "out").glob(".*")) and not list((tmp_path / "out").glob("*.tmp"))
    again = run(tmp_path / "out", choice, parts=("3/3",))
    assert again.was_finished


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b"])
def test_a_part_that_is_none_is_refused(tmp_path, choice, part):
    with pytest.raises(ConfigError, match="expected I/N with 1 <= I <= N"):
        run(tmp_path / "out", choice, parts=(part,))


@pytest.mark.slow
def test_processes_change_no_byte(tmp_path, choice):
    run(tmp_path / "one", choice)
    run(tmp_path / "three", choice, workers=3)
    assert digests(tmp_path / "three") == digests(tmp_path / "one")


def test_what_a_stop_leaves_is_kept_with_its_lists(tmp_path, choice):
    run(tmp_path / "whole", choice)

    def until(stop):
        for record in frames():
            if record.frame == stop:
                raise KeyboardInterrupt
            yield record

    for stop in (3, 12, 29):
        out = tmp_path / f"stopped{stop}"
        plan = make_plan(frames(), PreparationConfig(side=32, samples_per_shard=5), choice)
        with pytest.raises(KeyboardInterrupt):
            prepare_shards(until(stop), out, plan, choice, problems=PROBLEMS)
        # Whole blocks only, of which number 4 has no shard.
        done = stop // 5
        assert len(list(out.glob("*.tar"))) == done - (done > 4)
        before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
        run(out, choice)
        assert digests(out) == digests(tmp_path / "whole")
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_stop_between_the_index_and_the_sheet_is_mended(tmp_path, choice, monkeypatch):
    run(tmp_path / "whole", choice)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("norface.data.prepared.write_sheet", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", choice)
    assert (tmp_path / "out" / "index.parquet").exists()
    run(tmp_path / "out", choice)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_other_settings_photographs_or_shards_are_refused_by_name(tmp_path, choice):
    run(tmp_path / "out", choice, parts=("1/3",))
    before = digests(tmp_path / "out")
    with pytest.raises(CorpusError, match="was begun with least_eye_distance 12.0, not 5.0"):
        run(tmp_path / "out", choice, least_eye_distance=5)
    with pytest.raises(CorpusError, match="was begun with samples 30, not 29"):
        run(tmp_path / "out", choice, records=lambda: frames(29))
    choice.weights.write_bytes(b"other")
    with pytest.raises(CorpusError, match="was begun with another file of the detector"):
        run(tmp_path / "out", choice)
    assert digests(tmp_path / "out") == before
    shutil.rmtree(tmp_path / "out" / ".preparation")
    with pytest.raises(CorpusError, match="holds other shards"):
        run(tmp_path / "out", choice)


def test_a_corpus_that_changes_while_it_is_read_is_noticed(tmp_path, choice):
    plan = make_plan(frames(), PreparationConfig(side=32, samples_per_shard=5), choice)
    with pytest.raises(CorpusError, match="has changed while it was read: 30 samples, then 31"):
        prepare_shards(frames(31), tmp_path / "out", plan, choice)


def test_a_shard_that_was_cut_is_written_anew(tmp_path, choice):
    run(tmp_path / "whole", choice)
    run(tmp_path / "out", choice, parts=("1/2",))
    shard = tmp_path / "out" / "shard-000002.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(CorpusError, match="shard-000002.tar: is 2000 bytes, was written with"):
        run(tmp_path / "out", choice, parts=("2/2",))
    run(tmp_path / "out", choice, parts=("2/2", "1/2"))
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def two_faces(region, faces="reject", name="square", tmp_path=None):
    picture = np.zeros((400, 600, 3), np.uint8)
    paint(picture, 20, 20, 300, (200, 0, 0))
    paint(picture, 450, 300, 60, (0, 200, 0))
    write_png(tmp_path / "two.png", picture)
    weights = tmp_path / "two.png"
    record = FaceRecord("c", "S", "c", 0, tmp_path / "two.png", region=region)
    config = PreparationConfig(side=64, faces=faces)
    choice = SquareChoice(name, weights)
    out = tmp_path / "out"
    prepare_shards([record], out, make_plan([record], config, choice), choice)
    note = read_csv(out / "notes.csv")[1:]
    return ShardIndex.open(out).read_pixels(0)[20:44, 20:44].mean((0, 1)), note


@pytest.mark.parametrize(
    ("region", "colour"), [((440, 290, 520, 370), 1), ((0, 0, 330, 330), 0), (None, 0)]
)
def test_the_region_of_a_record_chooses_the_face(tmp_path, region, colour):
    mean, note = two_faces(region, "reject" if region else "largest", tmp_path=tmp_path)
    assert mean.argmax() == colour and abs(mean[colour] - 200) < 6
    what = "that of the labels" if region else "the largest"
    assert note[0][2].startswith(f"2 faces; {what} was taken")


def test_a_small_face_beside_a_large_one_is_found_in_its_region(tmp_path):
    # The detector sees only the large one in the whole photograph.
    mean, _ = two_faces((440, 290, 520, 370), name="largest", tmp_path=tmp_path)
    assert mean.argmax() == 1


def test_a_region_without_a_face_is_left_out_with_the_reason(tmp_path):
    with pytest.raises(CorpusError, match="in the region 500, 10, 590, 100 of 600x400 pixels, 2 "):
        two_faces((500, 10, 590, 100), tmp_path=tmp_path)


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (20_000, 15_000)])
def test_a_picture_of_more_than_a_hundred_megapixels_is_left_out(tmp_path, choice, width, height):
    # 108 megapixels is above our limit, 300 above PIL's own.
    Image.new("1", (width, height)).save(tmp_path / "huge.png")
    assert (tmp_path / "huge.png").stat().st_size < 200_000
    records = [FaceRecord("c", "S", "c", 0, tmp_path / "huge.png"), *list(frames(3))[1:]]
    run(tmp_path / "out", choice, records=lambda: records)
    reason = read_csv(tmp_path / "out" / "rejects.csv")[2][2]
    assert "more than 100 megapixels; refused" in reason


def test_frames_of_a_clip_stay_together_and_single_photographs_are_put_together():
    def record(number, clip, image):
        return FaceRecord("c", "S", clip, number, image)

    videos = [record(n, "a", DrawnFrame(n)) for n in range(600)]
    videos += [record(n, "b", DrawnFrame(n)) for n in range(3)]
    videos += [record(n, "d", DrawnFrame(n)) for n in range(100)]
    photos = [record(n, "e", Path(f"{n}.jpg")) for n in range(20)]
    pieces = list(cut_pieces(videos + photos))
    assert [one for piece in pieces for one in piece] == videos + photos
    # 250 + 250 + 100 of a, b with d, then 8 + 8 + 4.
    assert [len(piece) for piece in pieces] == [250, 250, 100, 103, 8, 8, 4]


def test_a_disk_that_fills_up_says_what_is_kept_and_a_rerun_goes_on(choice, tmp_path):
    run(tmp_path / "whole", choice)
    needed = sum(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    with small_disk(tmp_path / "disk", "size=4k") as disk:
        # At every size something else is the first that does not fit: a shard, an entry, the index.
        for room in range(4, needed // 1024 + 64, 8):
            remount(disk, f"size={room}k")
            try:
                run(disk / "out", choice)
            except CorpusError as error:
                assert "cannot be written (" in str(error) and "No space left" in str(error)
                aside = [path.name for path in disk.rglob("*.*") if path.name.endswith(".tmp")]
                assert aside == [] and not list(disk.rglob("*-[0-9]*.parquet"))
            else:
                break
        assert room > 12 and digests(disk / "out") == digests(tmp_path / "whole")
