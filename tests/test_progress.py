"""Lines of progress in a log."""

import re

from norface.progress import Progress


def test_a_line_tells_the_time_left_and_the_last_one_does_not(capsys):
    with Progress("check", total=9, unit="sample", every_s=0) as progress:
        progress.advance(2, "loss 1")
        progress.advance(1)
    lines = [re.sub(r"[\d.]+/s", "R/s", line) for line in capsys.readouterr().err.splitlines()]
    assert re.fullmatch(r"check: 2/9 samples, R/s, \d+:\d\d left, loss 1", lines[0])
    assert lines[-1] == "check: 3/9 samples, R/s", "fewer than were told of: that is all"
