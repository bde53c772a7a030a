"""Kills sweeps at random moments and compares what they end in.

    python benchmarks/kill_sweep.py --kills 5 random tpe asha pbt

Each way searches with the small classifier of marked faces, on a real Ray, undisturbed and then
again, while SIGKILL ends the driver at drawn moments and, between them, one trial's process. After
each kill the same command goes on. In the end no trial may be lost, none that had ended may run
again, no step may have been trained that was not reported, and every trial has one run in MLflow
with its status; where the order of events does not matter (random, and all ways that run one trial
at a time) trials and winner must be those of the undisturbed sweep. Exit code 1 where they are not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tune"))

WAYS = {
    "random": [],
    "tpe": ["search={kind: tpe, startup: 2}", "resources.at_once=1"],
    "asha": ["scheduler={kind: asha, factor: 2}", "resources.at_once=1"],
    "pbt": [
        "scheduler={kind: pbt, every: 2, share: 0.5, synch: true}",
        "space={cla.optimizer.learning_rate: {loguniform: [1.0e-4, 3.0e-2]}}",
    ],
}
"Name => what makes the sweep of tests/tune/sweeps.py one of this kind."
UNEQUAL = ("pbt",)
"Its trials run beside each other, and who is ahead decides who takes over whose weights."


def main() -> int:
    """Run the ways; print a line a kill and a verdict each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="*", default=list(WAYS), help=", ".join(WAYS))
    parser.add_argument("--kills", type=int, default=5, help="of the driver")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--within", type=float, default=45, help="seconds from a start to a kill")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := [way for way in args.ways if way not in WAYS]:
        parser.error(f"found {unknown[0]}; there are: {', '.join(WAYS)}")
    from sweeps import run_search, write_workplace

    wrong = 0
    with tempfile.TemporaryDirectory(prefix="norface-sweeps-") as place:
        workplace = write_workplace(Path(place) / "work")
        for way in args.ways:
            budget = f"budget={{trials: {args.trials}, epochs: {args.epochs}}}"
            words = [budget, "tracking.mlflow=true", *WAYS[way]]
            began = time.monotonic()
            run_search(workplace, f"name={way}-whole", *words)
            print(f"{way}: undisturbed in {time.monotonic() - began:.0f} s", flush=True)
            try:
                survive(workplace, way, words, args.kills, args.within, f"{args.seed} {way}")
            except AssertionError as error:
                wrong += 1
                print(f"{way}: NOT AS IT SHOULD BE: {error}", flush=True)
            else:
                print(f"{way}: as it should be", flush=True)
    return 1 if wrong else 0


def survive(
    workplace: Path, way: str, words: list[str], kills: int, within_s: float, seed: str
) -> None:
    """Run the sweep with `kills` of the driver and one of a trial, and check what is left."""
    from sweeps import mlflow_runs, run_search, start_search, steps_trained

    from tune.folder import list_trials, trial_folder

    chance = random.Random(seed)
    sweep, whole = workplace / "runs" / f"{way}-killed", workplace / "runs" / f"{way}-whole"
    ended: dict[int, float] = {}
    for kill in range(kills):
        process = start_search(workplace, f"name={sweep.name}", *words)
        moment = chance.uniform(3, within_s)
        began = time.monotonic()
        if kill == kills // 2:
            kill_a_trial(process, sweep)
        while process.poll() is None and time.monotonic() - began < moment:
            time.sleep(0.01)
        alive = process.poll() is None
        process.kill()
        text = process.communicate()[0]
        assert alive or process.returncode == 0, f"exit code {process.returncode}: {text}"
        trials = list_trials(sweep)
        check_kept(ended, trials)
        ended = {trial.number: trial.seconds for trial in trials if trial.ended}
        what = f"killed after {moment:.1f} s" if alive else "had ended"
        print(f"{way}: driver {what}; {len(trials)} trials begun, {len(ended)} ended", flush=True)
    run_search(workplace, f"name={sweep.name}", *words)
    trials, undisturbed = list_trials(sweep), list_trials(whole)
    check_kept(ended, trials)
    assert [t.number for t in trials] == [t.number for t in undisturbed], "trials are lost"
    status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    expected = [(trial.name, status[trial.state]) for trial in trials]
    assert mlflow_runs(workplace, sweep) == expected, "MLflow has other runs"
    if way in UNEQUAL:
        return
    for trial in trials:
        steps = steps_trained(trial_folder(sweep, trial.number))
        assert steps == trial.reports, f"trial {trial.name}: {steps} epochs, {trial.reports} told"
    rows = [
        [(t.values, t.value, t.state, t.reports) for t in found] for found in (trials, undisturbed)
    ]
    assert rows[0] == rows[1], f"found {rows[0]}; undisturbed {rows[1]}"
    best, other = (
        (folder / "best.yaml").read_text().replace(folder.name, way) for folder in (sweep, whole)
    )
    assert best == other, f"another winner: {best}, undisturbed {other}"


def check_kept(ended: dict[int, float], trials: list) -> None:
    """Trials that had ended have run no second longer."""
    now = {trial.number: trial.seconds for trial in trials if trial.number in ended}
    assert now == ended, f"trials that had ended ran again: {ended} became {now}"


def kill_a_trial(driver: subprocess.Popen[str], sweep: Path) -> None:
    """SIGKILL the first process of a trial that there is; not the driver."""
    while driver.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"tune.trial" in words and any(bytes(sweep) in word for word in words):
                os.kill(int(entry.name), signal.SIGKILL)
                print(f"{sweep.name}: a trial's process killed", flush=True)
                return
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
