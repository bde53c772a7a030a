"""A mistake on a command line is one line and exit code 2, whichever program it is told to."""

import pytest

import launchers.accelerate
import launchers.deepspeed
import launchers.local
import launchers.pipeline
import launchers.snapshot
import launchers.submit
import tune.array
import tune.freeze
import tune.report
import tune.search
from norface.cli.main import main as norface


@pytest.mark.parametrize(
    ("main", "words", "line"),
    [
        (norface, ["train"], "norface train: the following arguments are required: STAGE"),
        (norface, ["train", "nor", "--dryrun"], "norface train: unrecognized arguments: --dryrun"),
        (norface, ["crossval", "-c"], "norface crossval: argument -c/--config: expected one arg"),
        (norface, ["prepare", "folder", "a", "b", "--workers", "two"],
         "norface prepare: argument --workers: invalid int value: 'two'"),
        (launchers.local.main, ["--ranks", "two", "--", "train"],
         "python -m launchers.local: argument --ranks: invalid int value: 'two'"),
        (launchers.local.main, ["--ranks", "0", "--", "train"], "--ranks: found 0"),
        (launchers.accelerate.main, ["--", "train"], "required: --ranks"),
        (launchers.deepspeed.main, ["--ranks", "0", "--", "train"], "--ranks: found 0"),
        (launchers.submit.main, ["--node", "2", "--", "train"], "unrecognized arguments: --node 2"),
        (launchers.pipeline.main, [], "required: CONFIG"),
        (launchers.snapshot.main, ["train", "nor", "--dryrun"],
         "norface train: unrecognized arguments: --dryrun"),
        (tune.search.main, ["a.yaml", "--nodes", "two"],
         "python -m tune.search: argument --nodes: invalid int value: 'two'"),
        (tune.array.main, [], "required: config"),
        (tune.freeze.main, [], "required: config"),
        (tune.report.main, [], "required: SWEEP"),
    ],
)  # fmt: skip
def test_it_names_the_argument_what_was_found_and_where_help_is(main, words, line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert line in said.err
    assert said.err.endswith(f"; see {said.err.split(':')[0]} --help\n")
