"""The device that a user names."""

import pytest
import torch

from norface import Analyzer
from norface.cli.main import main
from norface.devices import read_device
from norface.errors import ConfigError


def test_a_device_that_is_there_is_taken():
    assert read_device("cpu") == torch.device("cpu")
    assert read_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cpu:x"])
def test_another_word_is_refused_with_the_valid_ones(name):
    with pytest.raises(ConfigError, match=f"device: found '{name}'; valid: cpu, cuda, cuda:N"):
        read_device(name)


def test_a_gpu_that_is_not_there_is_one_line_wherever_it_is_named(tmp_path, capsys):
    name = f"cuda:{torch.cuda.device_count()}"
    wanted = f"device: found '{name}', but torch sees"
    with pytest.raises(ConfigError, match=wanted):
        Analyzer(classifier=tmp_path / "classifier.safetensors", device=name)
    assert main(["critics", "check", "critics.identity.source=synthetic", "--device", name]) == 2
    error = capsys.readouterr().err
    assert wanted in error and error.count("\n") == 1
