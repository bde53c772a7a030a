import json
import logging

import numpy as np
import pytest

from norface.data.folds import FOLDS, Fold, class_weights, load_folds, make_folds
from norface.errors import CorpusError

BP4D = [("bp4d", f"F{n:03d}") for n in range(1, 24)] + [("bp4d", f"M{n:03d}") for n in range(1, 19)]


def persons(count, corpus="synthetic"):
    return [(corpus, f"S{number:04d}") for number in range(count)]


@pytest.mark.parametrize(("name", "sizes"), [("bp4d", [14, 14, 13]), ("disfa", [9, 9, 9])])
def test_committed_parts_are_disjoint_and_of_the_published_sizes(name, sizes):
    parts = json.loads((FOLDS / f"{name}.json").read_text())["parts"]
    assert [len(part) for part in parts.values()] == sizes
    assert len({subject for part in parts.values() for subject in part}) == sum(sizes)


def test_bp4d_holds_its_23_women_and_18_men():
    folds = load_folds("bp4d", BP4D)
    assert [fold.name for fold in folds] == ["test=part1", "test=part2", "test=part3"]
    assert sorted(person for fold in folds for person in fold.test) == sorted(BP4D)
    assert ("bp4d", "M015") in folds[2].test and ("bp4d", "F001") in folds[0].test


def test_a_fold_trains_on_the_other_parts_less_the_validation_subjects():
    for fold in load_folds("bp4d", BP4D, validation_share=0.25, seed=3):
        rest = len(BP4D) - len(fold.test)
        assert len(fold.validation) == round(0.25 * rest)
        assert sorted(fold.train + fold.validation + fold.test) == sorted(BP4D)


def test_validation_subjects_are_seeded_and_can_be_none():
    chosen = [load_folds("bp4d", BP4D, seed=seed)[0].validation for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert load_folds("bp4d", BP4D, validation_share=0)[0].validation == []


def test_made_folds_test_everybody_once_and_are_balanced_and_seeded():
    folds = make_folds(persons(10), parts=3, seed=1, validation_share=0.2)
    assert sorted(len(fold.test) for fold in folds) == [3, 3, 4]
    assert sorted(person for fold in folds for person in fold.test) == persons(10)
    assert folds == make_folds(reversed(persons(10)), parts=3, seed=1, validation_share=0.2)
    assert folds != make_folds(persons(10), parts=3, seed=2, validation_share=0.2)
    assert all(fold.validation and fold.train for fold in make_folds(persons(3)))


def test_fewer_than_three_subjects_are_refused():
    with pytest.raises(CorpusError, match="2 subjects are too few for 3 folds"):
        make_folds(persons(2))
    with pytest.raises(CorpusError, match="4 subjects are too few for 5 folds"):
        make_folds(persons(4), parts=5)


def test_an_overlap_is_refused_by_name():
    with pytest.raises(CorpusError, match="fold 'x': a S1 is in train and in test"):
        Fold("x", [("a", "S1"), ("a", "S2")], [], [("a", "S1")])
    with pytest.raises(CorpusError, match="fold 'x': no person to test on"):
        Fold("x", [("a", "S1")], [], [])
    Fold("x", [("bp4d", "F001")], [], [("bp4dplus", "F001")])


def test_overlapping_parts_of_a_file_are_refused_by_name(tmp_path):
    parts = {"part1": ["A", "B"], "part2": ["C"], "part3": ["D", "A"]}
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"corpus": "own", "source": "here", "parts": parts}))
    with pytest.raises(CorpusError, match="own A is in part1 and in part3; parts must not"):
        load_folds(path, [("own", name) for name in "ABCD"])


def test_subjects_unknown_to_either_side_are_said_by_name(caplog):
    data = [person for person in BP4D if person != ("bp4d", "F005")] + [("bp4d", "F099")]
    with caplog.at_level(logging.WARNING):
        folds = load_folds("bp4d", data)
    assert "1 subjects of the data are not in the folds 'bp4d'" in caplog.text
    assert "left out: bp4d F099" in caplog.text
    assert "1 subjects of the folds 'bp4d' have no data: bp4d F005" in caplog.text
    everybody = {p for fold in folds for p in fold.train + fold.validation + fold.test}
    assert ("bp4d", "F099") not in everybody and ("bp4d", "F005") not in everybody


def test_data_of_another_corpus_is_refused():
    with pytest.raises(
        CorpusError, match="part1, part2, part3 of disfa has no subject in the data"
    ):
        load_folds("disfa", BP4D)


def test_a_wrong_name_or_file_gets_the_right_ones(tmp_path):
    with pytest.raises(
        CorpusError, match="folds 'bp5d': no such file; committed ones are bp4d, disfa"
    ):
        load_folds("bp5d", BP4D)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CorpusError, match="x.json': expected json of the form"):
        load_folds(tmp_path / "x.json", BP4D)


def test_class_weights_of_worked_rates():
    labels = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], float)
    # r = 1/2, 1/4: 1/r = 2, 4: w = 2 * (2, 4) / 6.
    np.testing.assert_allclose(class_weights(labels), [2 / 3, 4 / 3])


def test_missing_labels_are_masked_in_class_weights():
    labels = np.array([[1, np.nan], [0, 1], [np.nan, 0], [np.nan, 0], [np.nan, 0]])
    np.testing.assert_allclose(class_weights(labels), [2 / 3, 4 / 3])


def test_a_unit_that_is_never_positive_weighs_nothing():
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, np.nan, 0], [0, 0, 0]])
    np.testing.assert_allclose(class_weights(labels), [4 / 3, 0, 2 / 3])
    with pytest.raises(CorpusError, match="no unit has a positive label"):
        class_weights(np.zeros((3, 2)))


def test_class_weights_are_those_shipped_with_me_graphau():
    # BP4D, train on part1 and part2, 100,813 frames. The weights leave one scale open: the share of
    # positives of the rarest unit, here 0.1615.
    shipped = np.array([
        1.342985, 1.689665, 1.248091, 0.561356, 0.433044, 0.435894, 0.457287, 0.541004, 1.408054,
        0.722762, 1.493145, 1.666711,
    ])  # fmt: skip
    frames = 100_813
    positives = np.rint(frames * 0.1615 * shipped.max() / shipped).astype(int)
    labels = (np.arange(frames)[:, None] < positives).astype(np.float32)
    np.testing.assert_allclose(class_weights(labels), shipped, atol=1e-4)
    assert class_weights(labels).sum() == pytest.approx(12)
