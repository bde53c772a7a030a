"""A trial as Ray Tune sees it: an actor that watches the trial's process, report by report.

The actor holds no network and no data, so it starts in a second and is reused for the next trial.
Reports of earlier starts are given to the scheduler again, without running anything; not to
population-based training, which would have trials take over weights that have moved on.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from norface.tracking import METRICS_FILE
from tune.folder import OBJECTIVE, read_trial, take_over, trial_folder
from tune.process import TrialWatch

SAVED_FILE = "saved.json"


class NorfaceTrial(tune.Trainable):
    """Ray's config: {"number", "values"}; `shared` is Sweep.spec().

    Which trial it is says Ray's name for it: one that takes over another's config has its number
    in there too.
    """

    def setup(self, config: dict[str, Any], shared: Mapping[str, Any] | None = None) -> None:
        assert shared is not None
        self.shared = dict(shared)
        self.others: list[Any] = []
        self._begin(config)

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.values = dict(config["values"])
        self.folder = trial_folder(Path(self.shared["sweep"]), int(self.trial_name))
        self.watch = TrialWatch({**self.shared, "folder": str(self.folder)}, self._start_others)
        self.replay = deque(self.watch.recorded if self.shared["replay"] else [])
        self.is_waiting = False

    def step(self) -> dict[str, Any]:
        """The next report."""
        if self.replay:
            line = self.replay.popleft()
            return self._result(line, done=not self.replay and self.watch.trial.ended)
        if self.watch.trial.ended:
            return self._result({}, done=True)
        if self.is_waiting:
            self.watch.answer(stop=False)
            self.is_waiting = False
        event = self.watch.next()
        if event.kind != "report":
            return self._result({}, done=True)
        if event.metrics["step"] >= self.shared["reports"]:
            self.watch.answer(stop=False)
            self.watch.next()
            return self._result(event.metrics, done=True)
        self.is_waiting = True
        return self._result(event.metrics, done=False)

    def _result(self, line: Mapping[str, Any], *, done: bool) -> dict[str, Any]:
        value = line.get(OBJECTIVE, self.watch.trial.value)
        return {OBJECTIVE: float("nan") if value is None else value, "done": done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial."""
        self.watch.close()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        self.watch.close()
        for other in self.others:
            ray.kill(other)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """What another trial needs to go on from this one's weights (pbt)."""
        trial, place = self.watch.trial, Path(checkpoint_dir)
        run = self.folder / f"run{trial.generation}"
        newest = max(run.rglob("checkpoints/step-*"), key=lambda path: path.stat().st_mtime)
        shutil.copytree(newest, place / newest.relative_to(run))
        shutil.copyfile(self.folder / METRICS_FILE, place / METRICS_FILE)
        saved = {"number": trial.number, "reports": trial.reports, "values": self.values}
        (place / SAVED_FILE).write_text(json.dumps(saved), encoding="utf-8")

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]
        """Go on from a trial's weights: this one's own after a pause, or another's taken over."""
        place = Path(checkpoint)
        saved = json.loads((place / SAVED_FILE).read_text(encoding="utf-8"))
        self.replay.clear()
        trial = read_trial(self.folder)
        assert trial is not None, self.folder
        if saved["number"] == trial.number and self.values == trial.values:
            return
        self.watch.close()
        trial = read_trial(self.folder) or trial
        trial.history.append({"reports": trial.reports, "values": trial.values})
        trial.values, trial.reports = self.values, saved["reports"]
        trial.generation += 1
        run = self.folder / f"run{trial.generation}"
        shutil.rmtree(run, ignore_errors=True)
        source = next(place.rglob("checkpoints/step-*"))
        shutil.copytree(source, run / source.relative_to(place))
        take_over(self.folder, trial, place / METRICS_FILE)
        self._begin({"values": self.values})
        self.replay.clear()

    def _start_others(self) -> list[str] | None:
        """Ranks on the trial's other nodes; returns the command of this node's, None = one node."""
        nodes, ranks = self.shared["nodes"], self.shared["processes"]
        if nodes == 1:
            return None
        for other in self.others:
            ray.kill(other)
        address = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable, "-m", "tune.ranks", "--ranks", str(ranks), "--nodes", str(nodes),
            "--address", address, "--port", str(port), str(self.folder),
        ]  # fmt: skip
        group = get_current_placement_group()
        assert group is not None
        self.others = [
            NodeRanks.options(  # type: ignore[attr-defined]
                num_cpus=self.shared["cpus"] * ranks,
                num_gpus=self.shared["gpus"] * ranks,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=node
                ),
            ).remote([*command, "--node", str(node)], self.shared["cwd"], str(self.folder), node)
            for node in range(1, nodes)
        ]
        return command


@ray.remote
class NodeRanks:
    """The ranks of a trial on one of its other nodes; they end with rank 0, or with this actor."""

    def __init__(self, command: list[str], cwd: str, folder: str, node: int):
        log = open(Path(folder) / f"log-node{node}.txt", "a", encoding="utf-8")  # noqa: SIM115
        # Ray kills this process without a word: the pipe then closes, and the ranks end.
        self.process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
