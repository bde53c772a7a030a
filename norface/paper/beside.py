"""One row of the paper to stand beside figures of ours."""

from __future__ import annotations

from typing import Any

from norface.errors import ConfigError
from norface.paper.published import MEAN, PER_CENT, load_table

OURS = ("norface", "ours")
"How the paper's own rows are called, in small letters."


def find_paper_row(
    table: str, *, corpus: str, task: str, metric: str, row: str | None = None
) -> dict[str, Any] | None:
    """{"table", "experiment", "row", "values": {target or "mean": 0..1}} of one metric.

    The experiment is the corpus (`bp4d`, `bp4d-intensity`). `row` names another row than the
    paper's own. None where the table has the experiment, but not this metric. Raises ConfigError
    for a table, a corpus or a row that the paper has not.
    """
    published = load_table(table)
    experiment = f"{corpus}-intensity" if task == "intensity" else corpus
    if experiment not in published.experiments:
        raise ConfigError(
            f"{table}: the paper has no numbers for '{experiment}' there, but for"
            f" {', '.join(published.experiments)}"
        )
    rows = {one.row: one for one in published.of(experiment, metric)}
    if not rows:
        return None
    if row is None:
        own = [name for name in rows if any(word in name.lower() for word in OURS)]
        chosen = own[-1] if own else list(rows)[-1]
    elif row in rows:
        chosen = row
    else:
        raise ConfigError(f"{table}: no row '{row}' for {experiment}; there are {', '.join(rows)}")
    scale = 100.0 if metric in PER_CENT else 1.0
    values = {
        "mean" if column == MEAN else column: float(value) / scale
        for column, value in rows[chosen].values.items()
        if column == MEAN or column.startswith("AU")
    }
    return {"table": table, "experiment": experiment, "row": chosen, "values": values}
