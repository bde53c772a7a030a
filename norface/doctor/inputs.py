"""What a config reads: shards, normalized sets and critics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from norface.data.normalized import read_set
from norface.data.shards import ShardIndex
from norface.doctor.base import Complaint, DoctorConfig, Finding, look
from norface.doctor.places import measure_reading


def check_inputs(config: DoctorConfig) -> Iterator[Finding]:
    """One finding a folder of shards, normalized set and critic that the config names."""
    if not config.shards and {"data", "cla", "critics"} & config.model_fields_set:
        yield Finding(
            check="shards", state="skipped",
            found="the config names none; add data.shards=[FOLDER], of a cross-validation"
            " cla.data.shards=[FOLDER]",
        )  # fmt: skip
    for folder in dict.fromkeys(config.shards):
        yield look("shards", partial(check_shards, folder, config.cache_folder))
    sets = [
        path
        for one in (*config.data.normalized, *config.cla.data.normalized)
        for path in (one if isinstance(one, list) else [one])
    ]
    for folder in dict.fromkeys(sets):
        if "{fold}" not in str(folder):
            yield look("normalized", partial(check_set, folder))
    if config.critics is not None:
        yield from check_critics(config)


def check_shards(folder: Path, cache: Path | None) -> str:
    """Open the index, see that every shard is there, read the first and the last picture."""
    index = ShardIndex.open(folder, cache=cache)
    paths = index.shard_paths
    if absent := [path for path in paths if not path.exists()] if cache is None else []:
        raise Complaint(
            f"{absent[0]}: missing ({len(absent)} of {len(paths)} shards of the index are);"
            " bring them, or `norface check --rebuild-index`"
        )
    for row in (0, len(index) - 1):
        index.read_pixels(row)
    speed = ""
    if paths and paths[0].exists():
        speed = f", reads {measure_reading(paths[0]) / 1e6:.0f} MB/s"
    return (
        f"{folder}: {len(index)} pictures of {len(index.persons)} persons in {len(paths)} shards,"
        f" side {index.side}{speed}"
    )


def check_set(folder: Path) -> str:
    """A normalized set: its card and its shards."""
    card = read_set(folder)
    return f"{check_shards(folder, None)}, target {card.target}"


def check_critics(config: DoctorConfig) -> Iterator[Finding]:
    """Load and ask every critic, as `norface critics check` does."""
    from norface.critics.checking import CheckConfig, find_unjudged, list_chosen
    from norface.critics.checking import check_critics as ask_critics

    assert config.critics is not None
    wanted = CheckConfig(critics=config.critics, losses=config.loss_weights)
    problem = look("critics", lambda: "; ".join(find_unjudged(wanted)))
    if problem.state != "skipped":
        yield problem.model_copy(update={"state": "failed"})
    if not list_chosen(wanted):
        return
    for one in ask_critics(wanted):
        name = f"{one.kind} ({one.card.name if one.card else one.source})"
        if one.problems:
            yield Finding(check="critics", state="failed", found=f"{name}: {one.problems[0]}")
        else:
            found = f"{name} is sound, {one.milliseconds or 0:.0f} ms a picture there and back"
            yield Finding(check="critics", state="ok", found=found)
