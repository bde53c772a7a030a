"""`norface prepare normalized`: released normalized pictures => a normalized set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

NORMALIZED = "normalized"
"What stands in the place of CORPUS."
USAGE = (
    "norface prepare normalized CORPUS FOLDER OUT target=NAME [shards=FOLDER] [originals=FOLDER]"
)


def run_normalized(words: Sequence[str], *, side: int | None, dry_run: bool) -> int:
    """Import a release; `words` are what follows `normalized`. Raises NorfaceError."""
    from norface.config import load_config
    from norface.data.listing import refuse_inside
    from norface.data.released import (
        MISSING,
        UNMATCHED,
        ReleasedConfig,
        plan_release,
        write_release,
    )
    from norface.errors import ConfigError

    places = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    if len(places) != 3:
        raise ConfigError(f"expected {USAGE}; found {len(places)} of CORPUS FOLDER OUT")
    corpus, root, out = places
    if side is not None:
        settings.append(f"side={side}")
    plan = plan_release(corpus, root, load_config(ReleasedConfig, overrides=settings))
    refuse_inside(Path(out), Path(root))
    source = len(plan.index)
    if dry_run:
        print(
            f"{len(plan.matched)} of {len(plan.pictures)} pictures have a key of"
            f" {plan.index.name}; {source - len(plan.matched)} of {source} keys have no picture"
        )
        return 0
    done = write_release(plan, out)
    print(f"{done.written} normalized faces of {source} in {done.folder}")
    if done.unmatched:
        print(f"{done.unmatched} pictures were not used; see {done.folder / UNMATCHED}")
    if done.missing:
        print(f"{done.missing} originals have no picture; see {done.folder / MISSING}")
    if done.missing and plan.config.originals is None:
        print(
            "the classifier wants a picture of every original: the same command with"
            " originals=FOLDER and another OUT writes shards of those that have one"
        )
    if plan.config.originals is not None:
        print(f"train on their originals: cla.data.shards=[{plan.config.originals}]")
    print("nobody knows whom the generator saw: the classifier takes this set with protocol=paper")
    return 0
