"""What a person meets at the command line: overview, help, one-line errors, exit codes."""

import importlib.util
import subprocess
import sys
import time

import pytest

from norface import __version__
from norface.cli import main as cli

WRITTEN = [
    verb for verb in cli.VERBS if importlib.util.find_spec(f"norface.cli.{verb.replace('-', '_')}")
]


def norface(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "norface", *arguments], capture_output=True, text=True, timeout=120
    )


def test_overview_lists_every_verb_with_its_line(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb, line in cli.VERBS.items():
        assert f"{verb} " in text and line in text


def test_no_arguments_show_the_overview(capsys):
    assert cli.main([]) == 0
    assert "usage: norface VERB" in capsys.readouterr().out


def test_overview_answers_within_a_second_of_processor_time():
    # Processor time, because the machine may be busy; heavy imports would cost several seconds.
    program = (
        "import sys, time; from norface.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'cv2', 'pandas', 'mlflow'} & set(sys.modules);"
        "print('heavy', sorted(heavy), time.process_time() < 1)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy [] True"


def test_version_is_the_package_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"norface {__version__}\n"


def test_an_unknown_verb_is_one_line_with_the_known_ones_and_exit_code_2():
    done = norface("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unknown verb 'trian'" in done.stderr and "train" in done.stderr


def test_every_verb_of_the_overview_is_written():
    assert list(cli.VERBS) == WRITTEN


@pytest.mark.parametrize("verb", WRITTEN)
def test_help_of_a_verb_shows_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: norface {verb}" in text
    example = text[text.lower().index("example") :]
    assert f"norface {verb}" in example


@pytest.mark.parametrize("verb", WRITTEN)
def test_help_of_a_verb_imports_no_network_library(verb):
    started = time.monotonic()
    program = (
        "import sys\nfrom norface.cli.main import main\ntry: main([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\nprint('heavy', sorted({'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, verb], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy []", f"{time.monotonic() - started:.1f} s"


@pytest.mark.parametrize(
    "module", ["norface.training.stages.nor", "norface.training.stages.cla", "norface.critics.base"]
)
def test_who_reads_a_config_alone_waits_for_no_timm(module):
    program = f"import sys, {module}\nprint({{'timm', 'torchvision', 'mlflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nor", "-c", "no-such.yaml"], ["no-such.yaml", "no such config file"]),
        (["train", "norr", "-c", "no-such.yaml"], ["norr", "nor"]),
        (["check", "no-such-folder"], ["no-such-folder"]),
        (["evaluate", "no-such.parquet"], ["no-such.parquet"]),
    ],
)
def test_a_users_mistake_is_one_line_without_traceback_and_exit_code_2(arguments, words, tmp_path):
    if arguments[0] not in WRITTEN:
        pytest.skip(f"norface {arguments[0]} is not written yet")
    done = subprocess.run(
        [sys.executable, "-m", "norface", *arguments],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("norface")
    for word in words:
        assert word in last
    assert list(tmp_path.iterdir()) == []
