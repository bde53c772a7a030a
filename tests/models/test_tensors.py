"""Files of weights that are none, whoever reads them: one line each, and no code is run."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from norface.errors import WeightsError
from norface.models.classifier import load_classifier
from norface.models.encoder_files import read_checkpoint
from norface.models.tensors import read_tensors

DAMAGED = {
    "takes from an empty stack": b"\x80\x02.",
    "marks nothing": b"\x80\x02}q\x00(u.",
    "sets an attribute of a number": b"\x80\x02K\x01K\x02b.",
    "cut in a number": b"\x80\x02J\x01",
    "of another protocol": pickle.dumps({"a": 1}, protocol=5),
    "zeros": bytes(64),
    "empty": b"",
}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_line_and_no_warning(tmp_path, damage, suffix, recwarn):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(DAMAGED[damage])
    for read in (lambda: read_tensors(path, "VGG16"), lambda: read_checkpoint(path)[0]["a"]):
        # A dictionary without a tensor is for whoever looks for them.
        with pytest.raises((WeightsError, KeyError)) as caught:
            read()
        if caught.type is WeightsError:
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="weights.* not the weights of VGG16"):
        read_tensors(path, "VGG16")
    assert not [one for one in recwarn if "pickle" in str(one.message)]


def test_tensors_without_names_are_refused(tmp_path):
    torch.save({3: torch.zeros(2), "a": torch.zeros(2)}, tmp_path / "numbers.pt")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_tensors(tmp_path / "numbers.pt", "VGG16")


@pytest.mark.parametrize("card", ["3", "{", "[]", '{"config": 3}'])
def test_a_classifier_with_a_card_that_is_none_is_refused(tmp_path, card):
    save_file({"a": torch.zeros(1)}, tmp_path / "classifier.safetensors", {"norface": card})
    with pytest.raises(WeightsError, match="does not fit this version's classifier") as caught:
        load_classifier(tmp_path / "classifier.safetensors")
    assert "\n" not in str(caught.value)
