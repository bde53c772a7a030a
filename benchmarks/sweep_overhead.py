"""What Ray Tune costs over the bare trials of a sweep, and what ASHA saves.

    python benchmarks/sweep_overhead.py --trials 12 --epochs 400

Trains the small classifier of marked faces with the same values three times: the trials' processes
alone, as many at a time as the sweep runs; the sweep (`python -m tune.search`, from its start to
its report); and the sweep with ASHA. One line each, side by side, and what follows from them. A
trial takes some 12 s to start, so choose epochs that make it last two minutes or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tune"))


def main() -> int:
    """Run the three; print a line each and the two shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--subjects", type=int, default=9, help="people of eight pictures each")
    parser.add_argument("--grace", type=int, default=1, help="of ASHA: reports to its first rung")
    parser.add_argument("--factor", type=float, default=3, help="of ASHA: the best 1/factor go on")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", dest="changes")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from sweeps import write_workplace

    asha = f"scheduler={{kind: asha, grace: {args.grace}, factor: {args.factor}}}"
    budget = f"budget={{trials: {args.trials}, epochs: {args.epochs}}}"
    with tempfile.TemporaryDirectory(prefix="norface-overhead-") as place:
        os.chdir(write_workplace(Path(place) / "work", subjects=args.subjects))
        bare_s, bare_steps = time_bare([budget, *args.changes])
        tune_s, tune_steps = time_search("tune", [budget, *args.changes])
        asha_s, asha_steps = time_search("asha", [budget, asha, *args.changes])
    for name, seconds, steps in (
        ("bare trials", bare_s, bare_steps),
        ("Tune", tune_s, tune_steps),
        ("Tune with ASHA", asha_s, asha_steps),
    ):
        print(f"{name:<14} {seconds:8.1f} s  {steps:8} steps")
    print(
        f"overhead of Tune: {100 * (tune_s / bare_s - 1):.1f} % of the bare trials' time;"
        f" ASHA saved {100 * (1 - asha_steps / tune_steps):.1f} % of the steps"
    )
    return 0


def time_bare(words: Sequence[str]) -> tuple[float, int]:
    """Seconds and steps of the trials' processes alone, with nobody who listens to them."""
    from tune.expected import count_local_places
    from tune.folder import trial_folder
    from tune.sweep import Sweep, load_sweep

    sweep = Sweep(load_sweep("sweep.yaml", ["name=bare", *words]))
    with sweep.open():
        numbers = sweep.numbers()
        folders = [trial_folder(sweep.folder, sweep.begin(number).number) for number in numbers]
    waiting, running = list(folders), list[subprocess.Popen[str]]()
    places = count_local_places(sweep)
    print(f"{len(folders)} trials of {sweep.reports} reports, {places} at a time", flush=True)
    began = time.monotonic()
    while waiting or running:
        while waiting and len(running) < places:
            running.append(start_trial(waiting.pop(0), sweep.reports))
        time.sleep(0.05)
        for process in [one for one in running if one.poll() is not None]:
            if process.returncode:
                raise SystemExit(f"a trial ended with exit code {process.returncode}")
            running.remove(process)
    return time.monotonic() - began, count_steps(folders)


def start_trial(folder: Path, reports: int) -> subprocess.Popen[str]:
    """The process that a watcher starts, with all answers given beforehand."""
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tune.trial", str(folder)],
            env=environment(), stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdin is not None
    # Not closed: that would tell it to stop.
    process.stdin.write("go\n" * reports)
    process.stdin.flush()
    return process


def time_search(name: str, words: Sequence[str]) -> tuple[float, int]:
    """Seconds and steps of `python -m tune.search`."""
    from tune.folder import list_trials, trial_folder

    command = [sys.executable, "-m", "tune.search", "sweep.yaml", f"name={name}", *words]
    began = time.monotonic()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    folder = Path("runs") / name
    return seconds, count_steps([trial_folder(folder, t.number) for t in list_trials(folder)])


def environment() -> dict[str, str]:
    """Of the processes: this project's code."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def count_steps(folders: Sequence[Path]) -> int:
    """Steps that the stages of these trials have trained."""
    from norface.tracking import read_metrics

    stages = [path.parent for folder in folders for path in folder.glob("run*/**/metrics.jsonl")]
    return sum(max(line["step"] for line in read_metrics(stage)) for stage in stages)


if __name__ == "__main__":
    sys.exit(main())
