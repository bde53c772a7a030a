"""What must not be in the sources: unpickling, shells, open doors, passwords in files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from norface.config import load_config
from norface.errors import ConfigError, hide_password
from norface.mlflow_client import reason
from norface.tracking import TrackingConfig

PROJECT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("norface", "launchers", "tune", "benchmarks")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]

SAFE_LOADERS = ("SafeLoader", "yaml.SafeLoader", "yaml.CSafeLoader")


def name_of(call: ast.Call) -> str:
    """torch.load for `torch.load(...)`."""
    return ast.unparse(call.func)


def offences(text: str) -> list[str]:
    """What is forbidden in a source, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        what = ""
        if isinstance(node, ast.Call):
            name, words = name_of(node), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name.endswith("torch.load") and words.get("weights_only") != "True":
                what = "torch.load without weights_only=True"
            elif name.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve"):
                what = f"{name} unpickles"
            elif words.get("allow_pickle") == "True":
                what = "allow_pickle=True"
            elif name.endswith(("read_pickle", "load_pickle")):
                what = f"{name} unpickles"
            elif name.startswith("yaml.") and name.endswith(("load", "load_all")):
                if not name.startswith("yaml.safe_") and words.get("Loader") not in SAFE_LOADERS:
                    what = f"{name} makes objects; use yaml.safe_load"
            elif words.get("shell") == "True" or name in ("os.system", "os.popen"):
                what = f"{name} with a shell"
            elif name in ("eval", "exec", "__import__"):
                what = f"{name} runs what it is given"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            for one in node.names:
                if one.asname == "SafeLoader" and one.name not in ("CSafeLoader", "SafeLoader"):
                    what = f"{one.name} under the name of a safe loader"
        elif isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
            what = "an address that listens everywhere"
        if what:
            found.append(f"{node.lineno}: {what}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_is_unpickled_and_no_shell_or_open_door_is_used(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "from yaml import Loader as SafeLoader",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "eval(text)",
        "server.bind(('0.0.0.0', 80))",
    ],
)
def test_the_search_finds_each_of_them(text):
    assert len(offences(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "yaml.safe_load(text)",
        "from yaml import CSafeLoader as SafeLoader\nyaml.load(text, Loader=SafeLoader)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(words)",
    ],
)
def test_the_search_lets_safe_ways_pass(text):
    assert offences(text) == []


def test_job_scripts_open_no_door_and_build_no_command_from_words():
    for script in sorted((PROJECT / "slurm").glob("*.sh")):
        text = script.read_text(encoding="utf-8")
        assert "eval " not in text, script
        assert "--host 0.0.0.0" not in text, script


def test_a_password_is_neither_in_a_config_nor_in_a_message():
    with pytest.raises(ConfigError, match="a password does not belong in a config") as caught:
        load_config(TrackingConfig, None, ["uri=https://lab:secret@mlflow.example.org"])
    assert "secret" not in str(caught.value)
    told = reason(RuntimeError("POST https://lab:secret@mlflow.example.org/api failed\nmore"))
    assert told == "POST https://mlflow.example.org/api failed"
    assert hide_password("sql://u:p@host/db and http://x@y/") == "sql://host/db and http://y/"
