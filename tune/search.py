"""Search with Ray Tune, on this machine or on a running cluster of Ray.

    python -m tune.search configs/tune/experts.yaml [key=value ...] [--dry-run]
    slurm/tune.sh configs/tune/experts.yaml [key=value ...]

The same command again goes on where a sweep was killed or stopped: trials that ended are not run
again. SIGTERM, SIGUSR1 and Ctrl-C let the trials save; the exit code is then 75 (start again).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from norface.cli.arguments import Parser
from norface.errors import LaunchError, NorfaceError
from norface.report.build import REPORT_FILE
from norface.training.preemption import STOP_SIGNALS, StoppedOnRequest
from tune.config import ResourcesConfig
from tune.sweep import Sweep, load_sweep

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""No usage statistics, no files of Ray's own a trial, our own way to stop, and a token a sweep for
whoever reaches Ray's ports."""
PATIENCE_S = 600.0
"How long a cluster of Ray may take to come up."


class Interrupted(BaseException):
    """A signal asked the driver to stop."""


def search(sweep: Sweep, *, address: str = "local", nodes: int = 1) -> None:
    """Run the trials that are missing, then sum up. Raises NorfaceError, StoppedOnRequest."""
    with sweep.open() as run:
        whole = sweep.config.scheduler.kind == "asha"
        if sweep.numbers():
            try:
                with StopRequests() as stop, running_ray(address, nodes, stop):
                    for _ in range(1 + sweep.config.resources.retries):
                        if sweep.numbers():
                            run_trials(sweep, sweep.numbers(whole=whole), stop)
                    for number in sweep.numbers():
                        sweep.end(number, died=True)
            except BaseException as error:
                sweep.interrupted()
                if isinstance(error, Interrupted):
                    print(f"{sweep.folder}: stopped; the same command goes on", file=sys.stderr)
                    raise StoppedOnRequest(sweep.folder, 0) from None
                raise
        sweep.sum_up()
        run.log_artifact(sweep.folder / REPORT_FILE)


def run_trials(sweep: Sweep, numbers: Sequence[int], stop: StopRequests) -> None:
    """Hand the trials to Ray Tune and wait."""
    import random

    from ray import tune

    from tune.folder import OBJECTIVE
    from tune.numbers import Numbers, Watch, all_at_once
    from tune.ray_trial import NorfaceTrial

    resources = sweep.config.resources
    random.seed(sweep.config.seed)
    trainable = tune.with_resources(
        tune.with_parameters(NorfaceTrial, shared=sweep.spec()), placement(resources)
    )
    population = sweep.config.scheduler.kind == "pbt"
    tuner = tune.Tuner(
        trainable,
        param_space=all_at_once(sweep, numbers) if population else None,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode=sweep.config.objective.mode,
            num_samples=1 if population else len(numbers),
            search_alg=None if population else Numbers(sweep, numbers),
            scheduler=make_scheduler(sweep),
            max_concurrent_trials=count_places(resources),
            reuse_actors=True,
            trial_name_creator=lambda trial: str(trial.config["number"]),
        ),
        run_config=tune.RunConfig(
            name=f"start-{int(time.time())}",
            storage_path=str((sweep.folder / "ray").absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=resources.retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[Watch(sweep, stop)],
        ),
    )
    tuner.fit()


def make_scheduler(sweep: Sweep) -> TrialScheduler | None:
    """Ray's scheduler; its time is the number of reports."""
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    settings = sweep.config.scheduler
    if settings.kind == "asha":
        return ASHAScheduler(
            time_attr="training_iteration",
            max_t=sweep.reports,
            grace_period=min(settings.grace, sweep.reports),
            reduction_factor=settings.factor,
        )
    if settings.kind == "pbt":
        from tune.population import explore, mutations

        space = sweep.config.space
        return PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=settings.every,
            quantile_fraction=settings.share,
            resample_probability=settings.resample,
            synch=settings.synch,
            hyperparam_mutations={"values": mutations(space, sweep.config.seed)},
            custom_explore_fn=lambda config: explore(config, space),
            log_config=False,
        )
    return None


def placement(resources: ResourcesConfig) -> Any:
    """What one trial asks Ray for: a bundle a node."""
    from ray import tune

    bundle = {"CPU": resources.cpus * resources.processes}
    if resources.gpus:
        bundle["GPU"] = resources.gpus * resources.processes
    strategy = "PACK" if resources.nodes == 1 else "STRICT_SPREAD"
    return tune.PlacementGroupFactory([bundle] * resources.nodes, strategy=strategy)


def count_places(resources: ResourcesConfig) -> int:
    """Trials that run at once. Raises LaunchError where not even one fits."""
    import ray

    wanted = {
        "CPU": resources.cpus * resources.processes,
        "GPU": resources.gpus * resources.processes,
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = [
        min(int(node.get(kind, 0) / amount + 1e-6) for kind, amount in wanted.items() if amount)
        for node in nodes
    ]
    places = sum(fit) if resources.nodes == 1 else sum(1 for one in fit if one) // resources.nodes
    if places == 0:
        largest = max((node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)
        raise LaunchError(
            f"resources: a trial asks for {resources.nodes} node(s) with {wanted['CPU']:g} CPUs and"
            f" {wanted['GPU']:g} GPUs; there are {len(nodes)}, the largest with {largest[0]:g} and"
            f" {largest[1]:g}"
        )
    return min(places, resources.at_once or places)


@contextlib.contextmanager
def running_ray(address: str, nodes: int, stop: StopRequests) -> Iterator[None]:
    """Ray, started on this machine (`local`) or joined at HOST:PORT once it has so many nodes.

    Raises LaunchError where they are not there in time.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    import logging

    import ray

    print(
        "Ray opens ports on every network interface of its machines and cannot be told not to: use"
        " it where the network is trusted (docs/sweeps.md)",
        file=sys.stderr,
        flush=True,
    )
    here = address == "local"
    deadline = time.monotonic() + PATIENCE_S
    while not ray.is_initialized():
        try:
            ray.init(
                address=address,
                num_cpus=os.cpu_count() if here else None,
                # Nothing but numbers passes through it.
                object_store_memory=100_000_000 if here else None,
                include_dashboard=False if here else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except Exception as error:
            # Ray raises whatever it likes: where it is still coming up elsewhere, and where a busy
            # machine takes longer than its own half minute to start it.
            ray.shutdown()
            if time.monotonic() > deadline:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise LaunchError(f"no Ray at '{address}': {reason}") from None
            stop.check()
            time.sleep(1)
    stop.listen()
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    try:
        while (found := sum(node["Alive"] for node in ray.nodes())) < nodes:
            if time.monotonic() > deadline:
                raise LaunchError(f"{found} of {nodes} nodes have joined Ray at {address}")
            stop.check()
            time.sleep(1)
        yield
    finally:
        ray.shutdown()


class StopRequests:
    """SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C in the block are noted, and raised where it is safe.

    An exception out of a handler would come up anywhere within Ray, which swallows it or aborts.
    """

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Handle the signals; Ray and Tune set handlers of their own when they start."""
        for number in (*STOP_SIGNALS, signal.SIGINT):
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name

    def check(self) -> None:
        """Raise Interrupted where a signal has come."""
        if self.asked:
            raise Interrupted(self.asked)

    def __enter__(self) -> StopRequests:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; exit codes 0, 1, 2 as everywhere, 75 = stopped, start again."""
    parser = Parser("python -m tune.search", __doc__)
    parser.add_argument("config", type=Path, help="yaml of the sweep")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--dry-run", action="store_true", help="space, budget and expected time")
    parser.add_argument("--nodes", type=int, default=1, help="wait for so many nodes of that Ray")
    parser.add_argument(
        "--address", default="local", help="HOST:PORT of a running Ray; local = start one here"
    )
    given = parser.parse_intermixed_args(arguments)
    try:
        sweep = Sweep(load_sweep(given.config, given.overrides))
        if given.dry_run:
            from tune.expected import describe

            print(describe(sweep))
            return 0
        search(sweep, address=given.address, nodes=given.nodes)
    except NorfaceError as error:
        print(f"tune.search: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
