"""Everything from the raw corpus to the table of folds, as a graph of Slurm jobs.

    python -m launchers.pipeline [--cluster configs/cluster/NAME.yaml] CONFIG [key=value ...]
    slurm/pipeline.sh ...                                   the same

prepare -> pre-train F_nor -> fold by fold: fine-tune, normalize, classify -> summary. --dry-run
prints the table of jobs and queues nothing. Code and configs are frozen in ROOT/NAME/submitted,
logs go to ROOT/NAME/logs, the jobs' numbers to ROOT/NAME/pipeline.json.

The same command again submits what is neither finished nor queued, and what comes after it. When a
fold fails the others go on, and the summary says which are missing. CONFIG:

    name: disfa
    prepare:
      disfa: {corpus: disfa, root: /data/DISFA, out: shards/disfa, jobs: 16}
    pretrain: {config: configs/nor/pretrain.yaml, settings: {data.shards: [shards/celeba]}}
    finetune: {config: configs/nor/finetune-disfa.yaml}
    normalize: {target_image: target.png, jobs: 8}
    crossval: {config: configs/cla/disfa.yaml, settings: {cla.data.shards: [shards/disfa]}}
    cluster: {pretrain: {nodes: 8}, finetune: {nodes: 2}}   # over --cluster, step by step
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launchers.cluster import ClusterConfig, job_environment, sbatch_options, setup_lines
from launchers.graph import Graph, PipelineConfig, Step, build_graph
from launchers.snapshot import FOLDER, SETUP, dump_config, write_snapshot
from launchers.submit import add_cluster_options, read_cluster
from norface.cli.arguments import Parser
from norface.config import load_config
from norface.errors import LaunchError, NorfaceError
from norface.tracking import replacing

RECORD = "pipeline.json"
DONE, SUBMIT = "done", "to submit"


def plan(graph: Graph, record: Mapping[str, Any], queued: set[str]) -> dict[str, str]:
    """Step => `done`, `to submit`, or the number of its job that is still in the queue.

    A step is done when what it makes is there and all before it is done; a queued one is submitted
    anew when something before it is, because it waits for the job that failed.
    """
    states: dict[str, str] = {}
    for step in graph.steps:
        before = {states[name] for name in step.after}
        job = str(record.get(step.name, {}).get("job", ""))
        if step.done() and before <= {DONE}:
            states[step.name] = DONE
        elif job in queued and SUBMIT not in before:
            states[step.name] = job
        else:
            states[step.name] = SUBMIT
    return states


def submit_graph(
    config: PipelineConfig, cluster: ClusterConfig, graph: Graph, states: Mapping[str, str]
) -> dict[str, str]:
    """Queue what is to be submitted. Returns step => job number or `done`."""
    folder = config.folder
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    files = {name: dump_config(one) for name, one in graph.files.items()}
    if lines := setup_lines(cluster):
        files[SETUP] = "".join(line + "\n" for line in lines)
    snapshot = write_snapshot(folder / FOLDER, files)
    record, jobs = read_record(folder), dict(states)
    still = queued_jobs(record)
    for step in graph.steps:
        if states[step.name] != SUBMIT:
            continue
        old = str(record.get(step.name, {}).get("job", ""))
        if old in still:
            subprocess.run(["scancel", old], check=False)
        waits = [jobs[name] for name in step.after if jobs[name] != DONE]
        command = sbatch_command(step, graph.resources[step.kind], snapshot, folder, waits)
        jobs[step.name] = call(command, {**step.environment, **job_environment(
            graph.resources[step.kind]
        )})  # fmt: skip
        record[step.name] = {
            "job": jobs[step.name], "snapshot": snapshot.name, "time": round(time.time()),
        }  # fmt: skip
        with replacing(folder / RECORD) as aside:
            aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return jobs


def sbatch_command(
    step: Step, resources: ClusterConfig, snapshot: Path, folder: Path, waits: Sequence[str]
) -> list[str]:
    """The words of sbatch for one step."""
    pattern = "%x-%A_%a.out" if step.jobs > 1 else "%x-%j.out"
    options = [
        "--parsable",
        "--kill-on-invalid-dep=yes",
        f"--job-name={step.name.replace('/', '-')}",
        f"--output={folder.absolute() / 'logs' / pattern}",
        *sbatch_options(resources),
    ]
    if step.jobs > 1:
        options.append(f"--array=1-{step.jobs}")
    if waits:
        kind = "afterany" if step.whatever else "afterok"
        options.append(f"--dependency={kind}:{':'.join(waits)}")
    words = [
        str(snapshot / word[1:-1]) if word.startswith("{") and word.endswith(".yaml}") else word
        for word in step.words
    ]
    return ["sbatch", *options, str(snapshot / "slurm" / step.script), *words]


def call(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command of Slurm prints. Raises LaunchError with what it complains of."""
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise LaunchError(f"{command[0]}: not found; start it on a login node of Slurm") from None
    if done.returncode:
        raise LaunchError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def read_record(folder: Path) -> dict[str, Any]:
    """Step => {"job", "snapshot", "time"} of what was submitted; {} where nothing was."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def queued_jobs(record: Mapping[str, Any]) -> set[str]:
    """Numbers of this user's jobs that are in the queue, arrays by their own number."""
    return set(call(["squeue", "--me", "-h", "-o", "%F"], {}).split()) if record else set()


def format_table(graph: Graph, states: Mapping[str, str]) -> str:
    """Steps, what they ask for and what they wait for."""
    rows = [("step", "state", "tasks", "asks for", "waits for")]
    for step in graph.steps:
        one = graph.resources[step.kind]
        asks = f"{one.nodes} x {one.ranks} ranks"
        if one.gpus_per_node:
            asks += f", {one.gpus_per_node} GPU"
        waits = " ".join(step.after) + (" (whatever comes of them)" if step.whatever else "")
        rows.append((step.name, states[step.name], str(step.jobs), f"{asks}, {one.time}", waits))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit what is missing; print the table."""
    parser = Parser("python -m launchers.pipeline", __doc__, allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="yaml of the pipeline")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="changes to CONFIG")
    parser.add_argument("--dry-run", action="store_true", help="print the table; queue nothing")
    add_cluster_options(parser, leave_out=("name", "logs", "restarts"))
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(PipelineConfig, options.config, options.settings)
        cluster = read_cluster(options)
        graph = build_graph(config, cluster)
        record = read_record(config.folder)
        states = plan(graph, record, queued_jobs(record))
        if not options.dry_run:
            states = submit_graph(config, cluster, graph, states)
    except NorfaceError as error:
        print(f"launchers.pipeline: {error}", file=sys.stderr)
        return 2
    print(format_table(graph, states))
    if not options.dry_run:
        print(f"\n{config.folder}: logs in logs/, numbers of the jobs in {RECORD}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
