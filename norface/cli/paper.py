r"""A table or figure of the paper, our numbers beside the printed ones.

NAME is table1 ... table12, fig3 ... fig9, or all. What is missing is trained first, on every corpus
that is given; runs are shared between tables, and runs of another config are refused. For corpora
that are not given synthetic faces stand in under their own name (stand_in.enabled=false: nothing);
shards of another corpus than an experiment's name says are refused.
Writes OUT/NAME.md, .csv, .tex and .png, and a run in MLflow; the numbers are those that
ROOT/NAME/EXPERIMENT/crossval.json and the experiment's run in MLflow have.

protocols=[strict,paper] measures every row by both and sets them side by side: strict = nobody
whom a fold tests is seen by anything, the epoch is chosen on validation subjects; paper = F_nor may
have seen everybody (its sets: experiments.NAME.paper_sets), F_cla takes its last epoch.

{fold} in a path is the fold's name and * the only folder there: strict sets have one generator a
fold.

Some pictures want more than a corpus: other target identities (Figures 4 and 9), other normalizers'
pictures (5), the set of an F_nor without L_eye (6 and Table 10; for synthetic faces
stand_in.normalizer_images trains them, and one without L_exp). `all` leaves out those whose data
is not there.

Example:
    norface paper table7 out=paper
    norface paper table7 experiments.bp4d.shards=[shards/bp4d] \
        experiments.bp4d.sets.norface='["normalized/{fold}/*/*"]' seeds=[0,1,2]
    norface paper table1 protocols=[strict,paper] experiments.bp4d.shards=[shards/bp4d] \
        experiments.bp4d.sets.norface='["normalized/{fold}/*/*"]' \
        experiments.bp4d.paper_sets.norface='["normalized/all/*/*"]'
    norface paper table10 name=small stand_in.normalizer=synthetic-64-ablation.yaml \
        stand_in.normalizer_images=12000
    norface paper fig5 experiments.bp4d.shards=[shards/bp4d] \
        experiments.bp4d.others.PIRenderer=pirenderer/pictures
    norface paper all -c my-corpora.yaml train=false
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("name", metavar="NAME", help="table1 ... table12, fig3 ... fig9, all")
    parser.add_argument("-c", "--config", metavar="CONFIG", help="yaml with the settings below")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="experiments, seeds, out, train ..."
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")


def run(args: argparse.Namespace) -> int:
    """Measure, write and say where."""
    from norface.config import load_config
    from norface.errors import ConfigError
    from norface.paper.config import PaperConfig
    from norface.paper.pictures import NothingToDraw
    from norface.paper.produce import PICTURES, plan, produce
    from norface.paper.published import list_tables
    from norface.training.preemption import catch_stop_signals

    config = load_config(PaperConfig, args.config, args.settings)
    known = [*list_tables(), *PICTURES]
    if args.name != "all" and args.name not in known:
        raise ConfigError(f"'{args.name}' is not reproduced; there are: {', '.join(known)}, all")
    names = known if args.name == "all" else [args.name]
    if args.dry_run:
        for name in names:
            for line in plan(config, name):
                print(f"{name}: {line}")
        return 0
    with catch_stop_signals():
        for name in names:
            try:
                paths = produce(config, name)
            except NothingToDraw as error:
                if args.name != "all":
                    raise
                print(f"left out: {error}", file=sys.stderr)
                continue
            for path in paths:
                print(path)
    return 0
