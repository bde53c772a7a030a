"""Triplets of faces: mined from intensities, and read from FEC's table."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from norface.data.corpora.base import open_corpus
from norface.data.corpora.fec import TRIPLETS, write_table
from norface.data.loader import Draw
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.data.triplets import Judged, Mined, Triplet, read_triplets
from norface.errors import CorpusError
from norface.images import encode_jpeg

NAN = np.nan
SETTINGS = {"agreement": 2 / 3, "margin": 0.2, "one_class_margin": 0.1}


def mine(intensity, person, candidates=16, seed=0):
    table = np.array(intensity, np.float32)
    return Mined(table, np.array(person), seed=seed, candidates=candidates, margin=0.2)


def test_the_most_alike_of_other_persons_is_chosen_and_a_less_alike_one():
    # Row 1 wears the anchor's expression, but is the anchor's person.
    picker = mine([[1.0], [1.0], [0.9], [0.0], [0.2]], [0, 0, 1, 1, 2])
    odd = set()
    for position in range(40):
        triplet = picker.pick(Draw(0, 0, position))
        assert (triplet.first, triplet.second, triplet.margin) == (0, 2, 0.2)
        odd.add(triplet.odd)
    assert odd == {3, 4}


def test_faces_that_are_nearly_as_alike_are_no_odd_one():
    picker = mine([[1.0], [0.80], [0.79], [0.0]], [0, 1, 1, 2])
    # 0.21 is less than 1.25 x 0.2 + 0.02; only the last face is clearly less alike.
    assert {picker.pick(Draw(0, 0, position)).odd for position in range(20)} == {3}


def test_unlabelled_units_are_not_compared_and_unlabelled_faces_are_no_candidates():
    picker = mine([[1.0, 0.0], [NAN, NAN], [1.0, NAN], [0.0, 0.0], [NAN, 1.0]], [0, 1, 2, 3, 4])
    assert len(picker) == 4
    np.testing.assert_allclose(picker.compare(0, np.array([2, 3, 4])), [0, np.sqrt(0.5), 1])
    picked = {picker.pick(Draw(0, 0, n))[:3] for n in range(30)}
    assert {second for _, second, _ in picked} == {2}
    assert 1 not in {row for triplet in picked for row in triplet}


def test_draws_are_keyed_by_seed_epoch_and_position():
    rng = np.random.default_rng(0)
    intensity, person = rng.random((30, 4)), np.arange(30) // 3
    picker, again = mine(intensity, person, 4), mine(intensity, person, 4)
    places = [Draw(row, epoch, 7 * row) for row in range(30) for epoch in range(2)]
    assert [picker.pick(one) for one in places] == [again.pick(one) for one in places]
    assert picker.pick(Draw(3, 0, 0)) != picker.pick(Draw(3, 1, 0)) or (
        picker.pick(Draw(3, 0, 0)) != picker.pick(Draw(3, 2, 0))
    )


@pytest.mark.parametrize("person", [[0, 0, 0], [0, 1, 1]])
def test_too_few_other_persons_are_refused(person):
    with pytest.raises(CorpusError, match="at least two of other persons"):
        mine([[0.0], [0.5], [1.0]], person)


def test_a_table_is_read_by_its_votes(tmp_path):
    with ShardWriter(tmp_path / "shards", side=32) as writer:
        for number in range(4):
            image = encode_jpeg(np.full((32, 32, 3), 60 * number, np.uint8))
            writer.write(FaceRecord("fec", f"P{number}", "box", 0, image, split="train"))
    index = ShardIndex.open(tmp_path / "shards")
    keys = [index.key_of(row) for row in range(4)]
    a, b, c, d = keys
    lines = [
        (a, b, c, "ONE_CLASS_TRIPLET", [3, 3, 1], "train"),  # two of three agree: just enough
        (a, b, d, "TWO_CLASS_TRIPLET", [1, 1, 1, 1, 1], "train"),
        (b, c, d, "THREE_CLASS_TRIPLET", [2, 2, 2, 1, 1], "train"),  # 60 % are too few
        (b, c, d, "THREE_CLASS_TRIPLET", [], "train"),  # nobody voted
        (a, b, "fec_lost_box_0", "TWO_CLASS_TRIPLET", [1, 1, 1], "train"),  # no such face
        (c, a, d, "", [2, 2, 2], "test"),
    ]
    table = pd.DataFrame(lines, columns=TRIPLETS.names)
    table.to_parquet(tmp_path / "triplets.parquet")
    found = read_triplets(tmp_path / "triplets.parquet", index, **SETTINGS)
    assert found == {
        "train": [Triplet(0, 1, 2, 0.1), Triplet(1, 3, 0, 0.2)],
        "test": [Triplet(2, 3, 0, 0.2)],
    }
    assert Judged(found["train"]).pick(Draw(1, 5, 9)) == Triplet(1, 3, 0, 0.2)


def test_the_table_of_the_fec_reader_is_read(tmp_path):
    from norface.synthetic.layouts.base import LayoutSettings
    from norface.synthetic.layouts.fec import write

    (tmp_path / "fec").mkdir()
    write(tmp_path / "fec", LayoutSettings(subjects=2, side=64))
    reader = open_corpus("fec", tmp_path / "fec", ())
    with ShardWriter(tmp_path / "shards", side=32) as writer:
        for record in reader.read():
            image = encode_jpeg(np.zeros((32, 32, 3), np.uint8))
            writer.write(dataclasses.replace(record, image=image))
    # The layout's annotators never agree; here they do.
    table = reader.triplets()
    agreed = pa.array([[2, 2, 1]] * len(table), TRIPLETS.field("votes").type)
    table = table.set_column(table.column_names.index("votes"), "votes", agreed)
    write_table(table, tmp_path / "triplets.parquet")
    index = ShardIndex.open(tmp_path / "shards")
    found = read_triplets(tmp_path / "triplets.parquet", index, **SETTINGS)
    assert set(found) == {"train", "test"}
    assert sum(map(len, found.values())) == len(table)
    first = found["train"][0]
    keys = [index.key_of(row) for row in (first.first, first.odd, first.second)]
    assert keys == [table[name][0].as_py() for name in ("key1", "key2", "key3")]


def test_other_tables_and_shards_are_refused_in_one_line(tmp_path):
    with ShardWriter(tmp_path / "shards", side=32) as writer:
        image = encode_jpeg(np.zeros((32, 32, 3), np.uint8))
        writer.write(FaceRecord("fec", "P", "box", 0, image))
    index = ShardIndex.open(tmp_path / "shards")
    pd.DataFrame({"key1": ["a"]}).to_parquet(tmp_path / "short.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    lines = [("a", "b", "c", "", [1, 1, 1], "train")]
    pd.DataFrame(lines, columns=TRIPLETS.names).to_parquet(tmp_path / "other.parquet")
    for name, told in [
        ("short", "no column key2, key3, type, votes, split; `norface prepare fec"),
        ("text", "cannot be read as a table"),
        ("none", "cannot be read as a table"),
        ("other", "of 1 triplets none has its three faces in .* agree by 67%"),
    ]:
        with pytest.raises(CorpusError, match=told) as caught:
            read_triplets(tmp_path / f"{name}.parquet", index, **SETTINGS)
        assert "\n" not in str(caught.value)
