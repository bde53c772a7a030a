"""A trial, its watcher or one of its ranks is killed: what is done again, and what is not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sweeps
from sweeps import RATE, begin, children, finish, run_here, wait_until, write_workplace

from launchers.local import find_free_port
from norface.tracking import Run, TrackingConfig
from tune.folder import Trial, catch_up, read_trial, reports_of, take_over, write_trial
from tune.process import TrialWatch

pytest.importorskip("optuna", reason="pip install norface[tune]")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return write_workplace(tmp_path_factory.mktemp("work"))


@pytest.mark.slow
def test_a_killed_trial_is_started_again_and_ends_as_if_nothing_had_been(
    tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    whole = [one["metrics"]["f1"] for one in run_here(tmp_path / "a")]
    _, watch = begin(tmp_path / "b")
    first = watch.next()
    os.kill(watch.process.pid, signal.SIGKILL)
    rest = finish(watch)
    assert watch.starts == 2
    found = [first.metrics["objective"], *rest]
    assert found == [max(whole[: n + 1]) for n in range(3)]
    lines = reports_of(watch.folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    trial = read_trial(watch.folder)
    assert (trial.state, trial.reports, trial.value) == ("finished", 3, found[-1])


@pytest.mark.slow
def test_a_trial_of_two_nodes_that_loses_a_rank_is_started_again(tmp_path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    words = ["resources.nodes=2", "changes.cla.trainer.batch_per_rank=4"]
    sweep, watch = begin(tmp_path, *words)
    others: list[subprocess.Popen] = []

    def start_others() -> list[str]:
        command = ranks_command(watch.folder)
        others.append(subprocess.Popen([*command, "--node", "1"], stdin=subprocess.PIPE))
        return command

    monkeypatch.setenv("PYTHONPATH", str(sweeps.PROJECT))
    watch = TrialWatch(watch.spec, start_others)
    assert watch.next().metrics["step"] == 1
    rank = children(others[0].pid)[0]
    os.kill(rank, signal.SIGKILL)
    watch.answer(stop=False)
    finish(watch)
    assert watch.starts == 2 and read_trial(watch.folder).state == "finished"
    assert "another rank is gone" in (watch.folder / "log.txt").read_text()
    assert [line["step"] for line in reports_of(watch.folder)] == [1, 2, 3]
    assert others[1].wait(60) == 0


def ranks_command(folder: Path) -> list[str]:
    """What starts one rank on each of two nodes, both this machine; the first of them."""
    return [
        sys.executable, "-m", "tune.ranks", "--ranks", "1", "--nodes", "2",
        "--address", "127.0.0.1", "--port", str(find_free_port()), str(folder),
    ]  # fmt: skip


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of this signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_ranks_of_another_node_end_with_whoever_started_them(
    killed, tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path, "resources.nodes=2")
    command = [*ranks_command(watch.folder), "--node", "1"]
    environment = {**os.environ, "PYTHONPATH": str(sweeps.PROJECT), "NORFACE_GRACE_S": "1"}
    ranks = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    # Rank 1 waits for rank 0, which never comes.
    wait_until(lambda: children(ranks.pid), "a rank")
    rank = children(ranks.pid)[0]
    wait_until(lambda: catches(rank, signal.SIGTERM), "the rank to begin")
    if killed:
        # As Ray does with what an actor has started, when the actor is gone.
        ranks.kill()
    ranks.stdin.close()
    assert ranks.wait(300) in (75, 128 + signal.SIGTERM, -signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{rank}").exists(), "the rank to end", 300)


@pytest.mark.slow
def test_a_watcher_killed_between_two_files_counts_no_report_twice(
    tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path)
    # Killed with the report in metrics.jsonl and not yet in trial.json.
    code = (
        "import json, os, sys, tune.process\n"
        "tune.process.write_trial = lambda *_: os.kill(os.getpid(), 9)\n"
        "tune.process.TrialWatch(json.loads(sys.argv[1])).next()"
    )
    environment = {**os.environ, "PYTHONPATH": str(sweeps.PROJECT)}
    words = [sys.executable, "-c", code, json.dumps(watch.spec)]
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    assert read_trial(watch.folder).reports == 0
    assert [line["step"] for line in reports_of(watch.folder)] == [1]
    # And as if within a line.
    with open(watch.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "ti')
    watch = TrialWatch(watch.spec)
    assert watch.trial.reports == 1 and watch.trial.value == watch.recorded[0]["objective"]
    finish(watch)
    assert [line["step"] for line in reports_of(watch.folder)] == [1, 2, 3]


@pytest.mark.parametrize("files", range(4))
def test_a_takeover_that_is_killed_between_two_files_has_happened_or_has_not(
    files, tmp_path, monkeypatch
):
    ours, theirs = tmp_path / "0001", tmp_path / "0000"
    for folder, reports in ((ours, 1), (theirs, 2)):
        folder.mkdir()
        run = Run(folder, TrackingConfig(mlflow=False), None)
        for step in range(1, reports + 1):
            run.log({"objective": 0.1 * reports}, step)
    before = Trial(1, {RATE: 1.0}, reports=1, value=0.1)
    after = Trial(1, {RATE: 2.0}, reports=2, value=0.1, generation=1)
    write_trial(ours, before)
    left, replace = [files], os.replace

    def replace_or_die(*paths: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_or_die)
        with contextlib.suppress(KeyboardInterrupt):
            take_over(ours, after, theirs / "metrics.jsonl")
    assert catch_up(ours) == (before if files < 2 else after)
    assert len(reports_of(ours)) == (1 if files < 2 else 2)


@pytest.mark.slow
def test_a_trial_whose_watcher_is_gone_saves_and_leaves_the_folder_to_the_next(
    tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path)
    # A watcher of its own process, killed while the trial waits for its answer.
    code = (
        "import json, sys; from tune.process import TrialWatch\n"
        "watch = TrialWatch(json.loads(sys.argv[1])); watch.next()\n"
        "print(watch.process.pid, flush=True); watch.next()"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(watch.spec)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(sweeps.PROJECT)},
    )  # fmt: skip
    pid = int(killed.stdout.readline())
    killed.kill()
    killed.wait()
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists(), "the orphan to end", 60)
    watch = TrialWatch(watch.spec)
    assert watch.trial.reports == 1
    finish(watch)
    assert read_trial(watch.folder).state == "finished"
