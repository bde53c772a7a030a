"""The picture of a table of the paper: names that do not run into each other, and intervals."""

from itertools import pairwise

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from norface.report.paper_table import LABEL_WIDTH, draw_bars, wrap_name

NAMES = [
    "Random init [same run as w/o Idn: model.extractor_weights=null anyway]",
    "Mixup [90]", "Cutout [14]", "CutMix [84]",
    "Norface [rendered true faces, no F_nor]",
]  # fmt: skip


def test_long_names_are_wrapped_and_intervals_are_drawn():
    labels = [wrap_name(name, LABEL_WIDTH // len(NAMES)) for name in NAMES]
    assert labels[1] == "Mixup\n[90]" and labels[0].startswith("Random init\n[same run")
    figure = Figure(figsize=(9.0, 2.0), layout="constrained")
    axes = figure.subplots()
    ours: list[float | None] = [31.6, 22.7, 26.5, None, 81.7]
    intervals = [(28.1, 34.2), (20.1, 24.6), None, None, (79.9, 83.1)]
    draw_bars(axes, labels, {"paper": [66.4] * 5, "ours": ours}, {"ours": intervals})
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[0].x0 > 0

    drawn = [one for one in axes.collections if isinstance(one, LineCollection)]
    edges = [tuple(y for _, y in one.get_segments()[0]) for one in drawn]
    assert edges == [(28.1, 34.2), (20.1, 24.6), (79.9, 83.1)]
    # The number of a bar stands above its interval.
    assert {text.get_text(): text.get_position()[1] for text in axes.texts}["81.7"] == 83.1
