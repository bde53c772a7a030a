import json
import logging
from collections import Counter

import numpy as np
import pytest

from norface.data.fold_lists import FOLDS, read_fold_list
from norface.data.folds import (
    Fold,
    class_weights,
    draw_held_out,
    find_same_people,
    load_folds,
    make_folds,
)
from norface.errors import CorpusError

BP4D = [("bp4d", f"F{n:03d}") for n in range(1, 24)] + [("bp4d", f"M{n:03d}") for n in range(1, 19)]
BP4DPLUS = [("bp4dplus", f"F{n:03d}") for n in range(1, 83)]
BP4DPLUS += [("bp4dplus", f"M{n:03d}") for n in range(1, 59)]
DISFA = [("disfa", f"SN{n:03d}") for n in [*range(1, 14), 16, 17, 18, 21, *range(23, 33)]]
CORPORA = {"bp4d": BP4D, "bp4dplus": BP4DPLUS, "disfa": DISFA}


def persons(count, corpus="synthetic"):
    return [(corpus, f"S{number:04d}") for number in range(count)]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bp4d", [14, 14, 13]),
        ("disfa", [9, 9, 9]),
        ("bp4dplus", [47, 47, 46]),
        ("bp4dplus-fmae4", [35, 35, 35, 35]),
        ("bp4dplus-bigsmall3", [46, 46, 47]),
    ],
)
def test_committed_parts_are_disjoint_and_of_the_published_sizes(name, sizes):
    body = json.loads((FOLDS / f"{name}.json").read_text())
    subjects = [subject for part in body["parts"].values() for subject in part]
    assert [len(part) for part in body["parts"].values()] == sizes
    assert len(set(subjects)) == len(subjects)
    everybody = {subject for _, subject in CORPORA[body["corpus"]]}
    assert everybody - set(subjects) == ({"F082"} if name == "bp4dplus-bigsmall3" else set())
    assert set(subjects) <= everybody and len(body["source"]) > 60


def test_the_published_folds_of_bp4dplus_test_whom_they_should():
    four = {fold.name: fold for fold in load_folds("bp4dplus-fmae4", BP4DPLUS)}
    # forever208/FMAE-IAT AU/BP4D_plus_preprocess.py: how SUBJECTS_1 to SUBJECTS_4 begin.
    for number, subjects in enumerate(
        ["M040 F072 M015", "F074 F012 F034", "F029 F054 F064", "M058 F037 F010"], 1
    ):
        assert {("bp4dplus", one) for one in subjects.split()} <= {*four[f"test=part{number}"].test}
    three = load_folds("bp4dplus-bigsmall3", BP4DPLUS)
    assert [fold.test[0][1] for fold in three] == ["F003", "F001", "F007"]
    assert [fold.test[-1][1] for fold in three] == ["M056", "M055", "M058"]


def test_our_own_folds_of_bp4dplus_are_the_seeded_ones_that_they_say():
    drawn = make_folds(reversed(BP4DPLUS), parts=3, seed=0)
    committed = load_folds("bp4dplus", BP4DPLUS)
    assert [(fold.name, fold.test) for fold in committed] == [(f.name, f.test) for f in drawn]
    assert "seed=0" in json.loads((FOLDS / "bp4dplus.json").read_text())["source"]


def test_fera_trains_on_odd_numbers_and_tests_on_even_ones():
    (fold,) = load_folds("bp4d-fera2015", BP4D, validation_share=0.2, seed=1)
    assert fold.name == "test=even" and len(fold.test) == 20
    assert all(int(subject[1:]) % 2 == 0 for _, subject in fold.test)
    assert len(fold.train) + len(fold.validation) == 21 and len(fold.validation) == 4
    assert all(int(subject[1:]) % 2 for _, subject in fold.train + fold.validation)


def test_fixed_splits_keep_their_own_validation_subjects_whatever_the_seed():
    folds = load_folds("disfa-12-6-9", DISFA, seed=5, validation_share=0.5)
    assert [fold.name for fold in folds] == ["test=set0", "test=set1", "test=set2"]
    for fold in folds:
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (12, 6, 9)
        assert sorted(fold.train + fold.validation + fold.test) == DISFA
    assert sorted(person for fold in folds for person in fold.test) == DISFA
    # ESanchezLozano/Action-Units-Heatmaps#10, fold 1.
    assert (
        " ".join(name for _, name in folds[1].validation) == "SN004 SN018 SN023 SN024 SN030 SN032"
    )
    assert folds == load_folds("disfa-12-6-9", DISFA, seed=0, validation_share=0)


def write_list(path, **body):
    path.write_text(json.dumps({"corpus": "own", "source": "here", **body}))
    return path


def test_an_overlap_in_a_fixed_split_is_refused_even_where_the_person_has_no_data(tmp_path):
    split = {"train": ["A", "B"], "validation": ["C"], "test": ["D", "A"]}
    path = write_list(tmp_path / "own.json", splits={"x": split})
    with pytest.raises(CorpusError, match="split 'x': own A is in train and in test; a person may"):
        load_folds(path, [("own", name) for name in "BCD"])


def test_a_fixed_split_whose_role_has_no_data_is_refused():
    some = [("disfa", name) for name in ("SN001", "SN003", "SN004")]
    with pytest.raises(CorpusError, match="validation of set0, .*test of set1, .* no subject in"):
        load_folds("disfa-12-6-9", some)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"parts": {"a": ["A"]}}, "1 part; at least 2 are needed"),
        ({"parts": {"a": ["A"], "b": []}}, "nobody is in b; name subjects or leave it out"),
        ({"parts": {}}, "expected json of the form"),
        ({"parts": {"a": "A", "b": ["B"]}}, "expected json of the form"),
        ({"parts": {"a": ["A"], "b": [2]}}, "expected json of the form"),
        ({}, "expected json of the form"),
        ({"parts": {"a": ["A"], "b": ["B"]}, "splits": {}}, "expected json of the form"),
        ({"splits": {"x": {"train": ["A"]}}}, 'or with "splits": {"set0"'),
        ({"splits": {"x": {"train": ["A"], "test": ["B"], "dev": ["C"]}}}, "expected json"),
        ({"splits": {"x": {"train": ["A"], "test": []}}}, "nobody is in test of x"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path, body, message):
    with pytest.raises(CorpusError, match=message):
        read_fold_list(write_list(tmp_path / "own.json", **body))


def test_the_people_of_disfa_and_disfaplus_are_known_to_be_the_same():
    nine = [("disfaplus", f"SN{n:03d}") for n in (1, 3, 4, 7, 9, 10, 13, 25, 27)]
    assert find_same_people(DISFA, nine) == [
        (("disfa", name), ("disfaplus", name)) for _, name in nine
    ]
    assert find_same_people(nine, [("disfa", "SN003"), ("disfa", "SN002")]) == [
        (("disfaplus", "SN003"), ("disfa", "SN003"))
    ]
    assert find_same_people(BP4D, BP4DPLUS) == [] == find_same_people(DISFA, DISFA)


def test_a_fold_that_tests_on_people_it_trained_on_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        Fold("x", [("disfa", "SN001"), ("disfa", "SN002")], [], [("disfaplus", "SN003")])
        assert caplog.text == ""
        Fold("x", [("disfa", "SN002")], [("disfa", "SN003")], [("disfaplus", "SN003")])
    assert "fold 'x' tests on people that it trains on" in caplog.text
    assert "disfa SN003 = disfaplus SN003" in caplog.text


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
    with pytest.raises(CorpusError, match="own A is in part1 and in part3; a person"):
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


def test_data_of_another_corpus_is_refused_in_one_line(caplog):
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(CorpusError, match="part1, part2, part3 of disfa has no subject in the data"),
    ):
        load_folds("disfa", BP4D)
    assert caplog.text == ""


def test_a_wrong_name_or_file_gets_the_right_ones(tmp_path):
    with pytest.raises(
        CorpusError,
        match="folds 'bp5d': no such file; committed ones are bp4d, bp4d-fera2015, bp4d",
    ):
        load_folds("bp5d", BP4D)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CorpusError, match="x.json': expected json of the form"):
        load_folds(tmp_path / "x.json", BP4D)


def test_held_out_persons_are_of_every_corpus_and_stay_when_others_go():
    corpora = {"celeba": 300, "emo135": 100, "webface": 200}
    everybody = [one for name, count in corpora.items() for one in persons(count, name)]
    drawn = draw_held_out(everybody, 60, seed=0)
    counts = Counter(corpus for corpus, _ in drawn)
    assert all(counts[name] == pytest.approx(count / 10, abs=8) for name, count in corpora.items())
    assert drawn == sorted(drawn) == draw_held_out(everybody[::-1], 60, seed=0)
    assert drawn != draw_held_out(everybody, 60, seed=1)
    # One who is gone leaves the place to one other.
    left = draw_held_out([one for one in everybody if one != drawn[0]], 60, seed=0)
    assert len(set(drawn) & set(left)) == 59


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


def test_class_weights_of_rows_with_several_missing_labels():
    nan = np.nan
    labels = np.array([
        # r = 1/4 of 4, 2/3 of 3, 1/2 of 2: 1/r = 4, 1.5, 2, sum 7.5; w = 3 (4, 1.5, 2) / 7.5.
        [1, 1, nan],
        [0, 1, nan],
        [0, 0, 1],
        [0, nan, 0],
    ])  # fmt: skip
    np.testing.assert_allclose(class_weights(labels), [1.6, 0.6, 0.8])


ME_GRAPHAU = {
    "bp4d 1": "1.342985 1.689665 1.248091 0.561356 0.433044 0.435894 0.457287 0.541004 1.408054"
    " 0.722762 1.493145 1.666711",
    "bp4d 2": "1.191051 1.337315 1.246995 0.558933 0.468168 0.418041 0.440099 0.581900 1.670360"
    " 0.774237 1.586367 1.726535",
    "bp4d 3": "1.132895 1.519623 1.308560 0.552098 0.507140 0.443118 0.474432 0.535111 1.496040"
    " 0.749851 1.582501 1.698632",
    "disfa 1": "1.422290 2.347771 0.399672 0.795021 1.878217 0.440125 0.195583 0.521322",
    "disfa 2": "1.390215 1.469573 0.527298 1.034498 1.672842 0.656650 0.303915 0.945009",
    "disfa 3": "1.510590 1.560063 0.475896 0.884891 1.656857 0.570937 0.277589 1.063177",
}
"CVI-SZU/ME-GraphAU dda53cb, data/*/list/*_weight_fold*.txt."


@pytest.mark.parametrize("name", ME_GRAPHAU)
def test_class_weights_are_those_shipped_with_me_graphau(name):
    shipped = np.array(ME_GRAPHAU[name].split(), float)
    assert shipped.sum() == pytest.approx(len(shipped), abs=1e-5)
    # The weights leave one scale open, the share of positives of the commonest unit; half of
    # 100,000 frames here, of which a unit that is w times rarer has 1/w.
    frames = 100_000
    positives = np.rint(frames / 2 * shipped.min() / shipped).astype(int)
    labels = (np.arange(frames)[:, None] < positives).astype(np.float32)
    np.testing.assert_allclose(class_weights(labels), shipped, rtol=2e-4)
    # As many frames again of which nothing is known change nothing.
    unknown = np.concatenate([labels, np.full_like(labels, np.nan)])
    np.testing.assert_allclose(class_weights(unknown), class_weights(labels))
    assert class_weights(labels).sum() == pytest.approx(len(shipped))
