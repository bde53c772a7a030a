"""What stage `cla` trains and tests on: leaks, other corpora, and data that lacks what it needs."""

from __future__ import annotations

import json

import pytest
import torch
from marked_faces import write_corpus, write_normalized

from norface.data.fold_choice import FoldChoice
from norface.data.loader import Draw
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.models.classifier import load_classifier
from norface.models.encoder_files import save_encoder
from norface.models.vit import FaceEncoder, VitConfig
from norface.training.run import run_stage
from norface.training.stages.cla import ClaStage
from norface.training.stages.cla_folds import find_sets, name_folds, open_folds


def test_a_generator_that_saw_a_test_subject_is_refused_unless_the_protocol_is_the_papers(
    corpus, backend, make_config, tmp_path
):
    test = ClaStage(make_config(), backend).fold.test
    leaky = write_normalized(
        corpus / "shards", tmp_path / "leaky", generator="0123456789ab", trained_on=test[:1]
    )
    options = [f"data.normalized=[{leaky}]"]
    with pytest.raises(CorpusError, match=f"trained on 1 test subjects, first {'/'.join(test[0])}"):
        ClaStage(make_config(*options), backend)
    ClaStage(make_config(*options, "data.protocol=paper"), backend)


def test_a_target_that_is_a_test_subject_is_refused(corpus, backend, make_config, tmp_path):
    subject = ClaStage(make_config(), backend).fold.test[0][1]
    target = f"synthetic_{subject}_c_0"
    own = write_normalized(corpus / "shards", tmp_path / "own", target=target)
    with pytest.raises(CorpusError, match=f"target {target} is a test subject"):
        ClaStage(make_config(f"data.normalized=[{own}]"), backend)


def test_a_set_of_other_shards_is_refused(corpus, backend, make_config, tmp_path):
    other = write_normalized(corpus / "shards", tmp_path / "other", source="0" * 64)
    told = "was made from other shards.*every key is there, first synthetic_S0000_c_0"
    with pytest.raises(CorpusError, match=told):
        ClaStage(make_config(f"data.normalized=[{other}]"), backend)


def test_a_set_that_lacks_a_face_names_the_first_key(backend, make_config, tmp_path):
    few = write_corpus(tmp_path / "few", subjects=3)
    part = write_normalized(few, tmp_path / "part")
    whole = write_corpus(tmp_path / "whole", subjects=4)
    options = [f"data.shards=[{whole}]", f"data.normalized=[{part}]"]
    told = "other shards than .*(8 keys are missing, first synthetic_S0003_c_0)"
    with pytest.raises(CorpusError, match=told):
        ClaStage(make_config(*options), backend)
    card = json.loads((part / "set.json").read_text())
    card["source"] = ShardIndex.open(whole).digest
    (part / "set.json").write_text(json.dumps(card))
    with pytest.raises(CorpusError, match="8 keys are missing, first synthetic_S0003_c_0"):
        ClaStage(make_config(*options), backend)


def test_an_unknown_fold_gets_the_list_of_right_ones(backend, make_config):
    with pytest.raises(ConfigError, match="found 'part9'; there are: test=part1, test=part2"):
        ClaStage(make_config("data.fold=part9"), backend)


def test_units_without_labels_are_refused_by_name(backend, make_config):
    with pytest.raises(CorpusError, match="no au labels for AU4"):
        ClaStage(make_config("units=[1, 4]"), backend)


def test_a_corpus_is_trained_on_and_another_tested(corpus, backend, make_config, tmp_path):
    other = write_corpus(tmp_path / "other", subjects=4, corpus="bp4d", units=(1, 12, 4))
    normalized = write_normalized(other, tmp_path / "normalized")
    shards = f"data.shards=[{corpus / 'shards'},{other}]"
    options = [
        shards,
        "data.folds=corpora",
        "data.train_corpora=[bp4d]",
        "data.fold=test=synthetic",
    ]
    both = f"data.normalized=[[{corpus / 'normalized'},{normalized}]]"
    stage = ClaStage(make_config(*options, both), backend)
    table = stage.streams.index.table
    where = {part: set(table["corpus"].iloc[rows]) for part, rows in stage.rows.items()}
    assert where == {"train": {"bp4d"}, "validation": {"bp4d"}, "test": {"synthetic"}}
    assert len(stage.rows["test"]) == 72
    sample = stage._dataset("test", augmented=False)[Draw(5, 0, 5)]
    clean = ShardIndex.open(corpus / "normalized")
    pixels = torch.from_numpy(clean.read_pixels(clean.row_of(sample["key"])))
    assert torch.equal(sample["images"][1], pixels.permute(2, 0, 1))
    with pytest.raises(ConfigError, match="found 'disfa'; there are: bp4d, synthetic"):
        ClaStage(make_config(shards, "data.folds=corpora", "data.train_corpora=[disfa]"), backend)
    index = ShardIndex.open([corpus / "shards", other])
    every = open_folds(make_config(shards, "data.folds=corpora").data, index)
    assert [fold.name for fold in every] == ["test=bp4d", "test=synthetic"]


def test_people_of_two_corpora_are_not_trained_on_where_they_are_tested(
    backend, make_config, tmp_path, caplog
):
    # S0000 .. S0003 of DISFA+ are people of DISFA; S0004 and S0005 are in DISFA alone.
    shards = [
        write_corpus(tmp_path / corpus, subjects=subjects, corpus=corpus)
        for corpus, subjects in (("disfa", 6), ("disfaplus", 4))
    ]
    both = f"data.shards=[{shards[0]},{shards[1]}]"
    options = [both, "data.folds=corpora", "data.train_corpora=[disfa]", "data.fold=test=disfaplus"]
    stage = ClaStage(make_config(*options), backend)
    kept = {*stage.fold.train, *stage.fold.validation}
    assert kept == {("disfa", "S0004"), ("disfa", "S0005")} and len(stage.fold.test) == 4
    assert "4 persons are not trained on" in caplog.text
    sets = [
        write_normalized(
            folder,
            tmp_path / f"set{number}",
            generator="0123456789ab",
            trained_on=[("disfa", "S0003")],
        )
        for number, folder in enumerate(shards)
    ]
    with pytest.raises(CorpusError, match="first disfa/S0003 = disfaplus/S0003"):
        ClaStage(make_config(*options, f"data.normalized=[[{sets[0]},{sets[1]}]]"), backend)


def test_sets_of_one_stream_have_one_target(corpus, backend, make_config, tmp_path):
    other = write_corpus(tmp_path / "other", subjects=4, corpus="bp4d")
    normalized = write_normalized(other, tmp_path / "normalized", target="another_T_c_0")
    options = [f"data.shards=[{corpus / 'shards'},{other}]", "data.folds=corpora"]
    options += ["data.fold=test=bp4d", f"data.normalized=[[{corpus / 'normalized'},{normalized}]]"]
    with pytest.raises(CorpusError, match="the sets of one stream have one target"):
        ClaStage(make_config(*options), backend)


def test_fewer_sets_on_disk_than_in_the_config_are_refused_in_one_line(
    corpus, backend, make_config
):
    sets = f"data.normalized=[{corpus / 'normalized'},{corpus / 'second'}]"
    with pytest.raises(ConfigError, match="2 sets are asked for, .*/second is no folder"):
        ClaStage(make_config(sets), backend)


def test_units_without_labels_among_train_subjects_are_refused(backend, make_config, tmp_path):
    test = {subject for _, subject in ClaStage(make_config(), backend).fold.test}
    options = [f"data.shards=[{write_corpus(tmp_path / 'few', units=(1, 12, 4), only=(4, test))}]"]
    options += ["units=[1, 4]"]
    with pytest.raises(CorpusError, match="the train subjects have no label for AU4"):
        ClaStage(make_config(*options), backend)


def test_a_unit_that_never_occurs_in_training_is_said(backend, make_config, tmp_path, caplog):
    shards = write_corpus(tmp_path / "never", absent=(12,))
    stage = ClaStage(make_config(f"data.shards=[{shards}]"), backend)
    assert "fold 'test=part1': AU12 never occur among its train subjects" in caplog.text
    assert stage.targets == ["AU1", "AU12"]


def test_one_emotion_among_the_train_subjects_is_refused(backend, make_config, tmp_path):
    with pytest.raises(CorpusError, match="1 emotions are labelled; recognition needs two"):
        shards = write_corpus(tmp_path / "one", absent=(12,))
        ClaStage(make_config(f"data.shards=[{shards}]", "task=emotion"), backend)


def test_extractor_starts_from_weights_that_saw_no_test_subject(
    corpus, backend, make_config, tmp_path
):
    sizes = VitConfig(side=16, patch=4, width=16, depth=1, heads=2)
    before, vit = FaceEncoder(sizes).eval(), "model.vit={side: 16, patch: 4, width: 16, depth: 1"
    options = ["model.extractor=vit", vit + ", heads: 2}"]
    clean, leaky = tmp_path / "clean.safetensors", tmp_path / "leaky.safetensors"
    save_encoder(before, clean, source="x", persons=[("celeba", "7")], images=0)
    stage = ClaStage(make_config(*options, f"model.extractor_weights={clean}"), backend)
    faces = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(stage.bare.extractor.encoder(faces), before(faces))
    # What is saved says the path, and is read without the file.
    stage.export(tmp_path)
    clean.unlink()
    model, _ = load_classifier(tmp_path / "classifier.safetensors")
    assert model.config.extractor_weights == clean

    tested = stage.fold.test[0]
    save_encoder(before, leaky, source="x", persons=[tested], images=0)
    leak = [*options, f"model.extractor_weights={leaky}"]
    with pytest.raises(CorpusError, match=f"trained on faces of 1 test subjects.*{tested[1]}"):
        ClaStage(make_config(*leak), backend)
    ClaStage(make_config(*leak, "data.protocol=paper"), backend)
    with pytest.raises(ConfigError, match="only for model.extractor=vit"):
        ClaStage(make_config(f"model.extractor_weights={leaky}"), backend)


def test_a_star_is_the_only_folder_there_and_never_one_of_two(tmp_path):
    (tmp_path / "test=part1" / "T" / "0123").mkdir(parents=True)
    wanted = tmp_path / "{fold}" / "*" / "*"
    assert find_sets([wanted], "test=part1") == [[tmp_path / "test=part1" / "T" / "0123"]]
    with pytest.raises(ConfigError, match=r"test=part2/\*/\* is no folder"):
        find_sets([wanted], "test=part2")
    (tmp_path / "test=part1" / "T" / "4567").mkdir()
    with pytest.raises(ConfigError, match=r"several folders for \* in .*/T: 0123, 4567"):
        find_sets([wanted], "test=part1")


def test_names_of_folds_without_shards_are_those_with_them(corpus):
    index = ShardIndex.open(corpus / "shards")
    drawn = FoldChoice(parts=4)
    assert name_folds(drawn) == [fold.name for fold in open_folds(drawn, index)]
    assert name_folds(FoldChoice(folds="bp4d")) == ["test=part1", "test=part2", "test=part3"]
    assert name_folds(FoldChoice(folds="official")) == ["test=test"]
    assert name_folds(FoldChoice(folds="corpora")) is None


def test_pictures_kept_decoded_train_the_same_classifier_from_both_streams(
    corpus, make_config, tmp_path
):
    normalized = f"data.normalized=[{corpus / 'normalized'}]"
    kept = f"data.decoded_folder={tmp_path / 'kept'}"
    runs = [
        run_stage(ClaStage, make_config(f"name={name}", normalized, "epochs=2", *words))
        for name, words in {
            "plain": ["data.cache=false"],
            "filled": ["data.cache=false", kept],
            "read": ["data.cache=false", kept],
        }.items()
    ]
    files = list((tmp_path / "kept").iterdir())
    # Originals and normalized faces, each with what says which are there.
    assert len({file.name.split(".")[0] for file in files}) == 2
    weights = [(folder / "classifier.safetensors").read_bytes() for folder in runs]
    assert weights[0] == weights[1] == weights[2]
