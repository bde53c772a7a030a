import json

import numpy as np
import pytest
import torch
from disks import remount, small_disk

from norface.cli.main import main
from norface.data.indexing import find_rehearsal
from norface.data.normalized import NormalizedSet, read_set, write_set
from norface.data.records import FaceRecord
from norface.data.rehearsal import Rehearsal, write_marker
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError, CorpusError
from norface.files import file_sha256
from norface.images import encode_jpeg, read_photo, to_image, to_pixels, write_png
from norface.models.normalizer import Normalizer, NormalizerConfig, load_generator, save_generator
from norface.normalize import normalize_shards

TINY = {
    "encoder": {"side": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}
TARGET = "synthetic_S0001_c_1"


@pytest.fixture
def source(tmp_path):
    """Ten faces of four subjects in shards of three."""
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "source", side=16, samples_per_shard=3) as writer:
        for frame in range(10):
            writer.write(
                FaceRecord(
                    corpus="synthetic", subject=f"S{frame % 4:04d}", clip="c", frame=frame,
                    image=encode_jpeg(rng.integers(0, 256, (16, 16, 3), np.uint8)),
                    intensity={12: frame % 6}, landmarks=[[0.5, 0.5]] * 68, pose=(20.0, 0.0, 0.0),
                )
            )  # fmt: skip
    return tmp_path / "source"


@pytest.fixture
def generator(tmp_path):
    torch.manual_seed(0)
    model = Normalizer(NormalizerConfig.model_validate(TINY))
    path = tmp_path / "generator.safetensors"
    save_generator(model, path, persons=[("synthetic", "S9000")])
    return path


def test_set_has_the_keys_labels_and_shard_numbers_of_its_source(source, generator, tmp_path):
    folder = normalize_shards(generator, source, tmp_path / "out", target_key=TARGET, batch=2)
    digest = file_sha256(generator)[:12]
    assert folder == tmp_path / "out" / TARGET / digest
    before, after = ShardIndex.open(source), ShardIndex.open(folder)
    same = ["key", "shard", "subject", "intensity_12"]
    assert before.table[same].astype(str).equals(after.table[same].astype(str))
    card = read_set(folder)
    assert (card.target, card.generator, card.source) == (TARGET, digest, before.digest)
    assert card.trained_on == [("synthetic", "S9000")]


def test_a_set_of_a_rehearsal_is_one_too(source, generator, tmp_path):
    rehearsal = Rehearsal(layout="disfa", renderer=4)
    write_marker(source, rehearsal)
    folder = normalize_shards(generator, source, tmp_path / "out", target_key=TARGET)
    assert find_rehearsal(folder) == rehearsal


def test_a_disk_that_fills_up_leaves_nothing_half_and_a_rerun_ends_well(
    source, generator, tmp_path, capsys
):
    # Pages are of 4 KiB: there is room for nothing, then for the target's picture alone.
    with small_disk(tmp_path / "disk", "size=4k") as disk:
        (disk / "other").write_bytes(bytes(4096))
        words = [f"generator={generator}", f"source={source}", f"target_key={TARGET}",
                 f"out={disk}", "check_target=false"]  # fmt: skip
        for left in ([], ["target.png"]):
            assert main(["normalize", *words]) == 2
            assert "cannot be written (No space left on device)" in capsys.readouterr().err
            assert [path.name for path in disk.rglob("*.*")] == left
            (disk / "other").unlink(missing_ok=True)
        remount(disk, "size=2m")
        assert main(["normalize", *words]) == 0
        folder = disk / TARGET / file_sha256(generator)[:12]
        target = ShardIndex.open(source).read_pixels(1)
        np.testing.assert_array_equal(read_photo(folder / "target.png"), target)
        assert len(ShardIndex.open(folder)) == 10


def test_pictures_are_the_generators_and_original_geometry_is_dropped(source, generator, tmp_path):
    folder = normalize_shards(generator, source, tmp_path / "out", target_key=TARGET, batch=4)
    index, normalized = ShardIndex.open(source), ShardIndex.open(folder)
    model, _ = load_generator(generator)
    faces = [to_image(index.read_pixels(row))[None] for row in (5, index.row_of(TARGET))]
    expected = encode_jpeg(to_pixels(model(*faces))[0])
    record = normalized.read_record(5)
    assert record.image == expected
    assert record.landmarks is None and record.pose is None
    target = read_photo(folder / "target.png")
    assert np.array_equal(target, index.read_pixels(index.row_of(TARGET)))


def test_parts_together_are_the_whole_and_the_last_one_writes_the_index(
    source, generator, tmp_path
):
    whole = normalize_shards(generator, source, tmp_path / "whole", target_key=TARGET)
    for part in ("2/3", "1/3"):
        folder = normalize_shards(generator, source, tmp_path / "p", target_key=TARGET, part=part)
        assert not (folder / "index.parquet").exists()
    normalize_shards(generator, source, tmp_path / "p", target_key=TARGET, part="3/3")
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in folder.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (folder / name).read_bytes()


def test_rerun_writes_only_what_is_missing(source, generator, tmp_path):
    folder = normalize_shards(generator, source, tmp_path / "out", target_key=TARGET)
    (folder / "shard-000001.tar").unlink()
    kept = (folder / "shard-000000.tar").stat().st_mtime_ns
    normalize_shards(generator, source, tmp_path / "out", target_key=TARGET)
    assert (folder / "shard-000001.tar").is_file()
    assert (folder / "shard-000000.tar").stat().st_mtime_ns == kept


def test_set_of_another_source_is_not_mixed_in(source, generator, tmp_path):
    folder = normalize_shards(generator, source, tmp_path / "out", target_key=TARGET)
    write_set(folder, read_set(folder).model_copy(update={"source": "0" * 64}))
    with pytest.raises(CorpusError, match="holds a set of another source"):
        normalize_shards(generator, source, tmp_path / "out", target_key=TARGET)


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b"])
def test_odd_parts_are_refused(source, generator, tmp_path, part):
    with pytest.raises(ConfigError, match="expected I/N"):
        normalize_shards(generator, source, tmp_path / "out", target_key=TARGET, part=part)
    assert not (tmp_path / "out").exists()


def test_target_can_be_a_square_picture_of_any_size(source, generator, tmp_path):
    write_png(tmp_path / "mona.png", np.full((40, 40, 3), 90, np.uint8))
    write_png(tmp_path / "wide.png", np.full((40, 50, 3), 90, np.uint8))
    out = tmp_path / "out"
    folder = normalize_shards(
        generator, source, out, target_image=tmp_path / "mona.png", check_target=False
    )
    assert folder.parent.name == "mona"
    with pytest.raises(CorpusError, match="50x40"):
        normalize_shards(generator, source, out, target_image=tmp_path / "wide.png")


def test_command_line_says_what_it_would_do_and_then_does_it(source, generator, tmp_path, capsys):
    words = [f"generator={generator}", f"source={source}", f"out={tmp_path / 'out'}",
             f"target_key={TARGET}", "part=2/2", "device=cpu"]  # fmt: skip
    assert main(["normalize", "--dry-run", *words]) == 0
    assert "2 of 2 shards of part 2/2 to write" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(["normalize", *words]) == 0
    assert main(["normalize", *words[:-3], "target_key=nobody"]) == 2
    assert "1 keys are missing, first nobody" in capsys.readouterr().err
    # Frame 3 is labelled with AU12 at 3.
    smiling = [*words[:-3], "target_key=synthetic_S0003_c_3"]
    assert main(["normalize", *smiling]) == 2
    assert "it is labelled AU12 at 3.0" in capsys.readouterr().err
    assert main(["normalize", "--dry-run", *smiling, "check_target=false"]) == 0


def test_damaged_card_is_named(tmp_path):
    card = NormalizedSet(target="t", generator="truth", trained_on=[], source="0" * 64, side=16)
    write_set(tmp_path, card)
    assert read_set(tmp_path) == card
    text = json.loads((tmp_path / "set.json").read_text())
    (tmp_path / "set.json").write_text(json.dumps({**text, "side": "large"}))
    with pytest.raises(CorpusError, match="set.json: 'side': found 'large'"):
        read_set(tmp_path)
