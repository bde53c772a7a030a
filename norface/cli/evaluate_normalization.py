"""`norface evaluate normalization`: how good are normalized sets?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

NORMALIZATION = "normalization"
"What stands in the place of PREDICTIONS."
WRITERS = {".json": "json", ".md": "Markdown", ".csv": "CSV"}


def run_normalization(words: Sequence[str], args: argparse.Namespace) -> None:
    """Measure and print; `words` are what follows `normalization`. Raises NorfaceError."""
    from norface.config import load_config
    from norface.errors import ConfigError
    from norface.evaluation.normalization_study import NormalizationConfig, measure_sets
    from norface.report.normalization_table import to_csv, to_json, to_markdown, to_text
    from norface.tracking import replacing

    if odd := [word for word in words if "=" not in word]:
        raise ConfigError(
            f"'{odd[0]}': expected key=value, for example shards=FOLDER sets.ours=NORMALIZED; keys:"
            f" {', '.join(NormalizationConfig.model_fields)}"
        )
    outputs = [*(args.out or []), *([args.json] if args.json else [])]
    for path in outputs:
        if path.suffix not in WRITERS:
            raise ConfigError(f"{path}: its name must end with {', '.join(WRITERS)}")
    result = measure_sets(load_config(NormalizationConfig, args.config, words))
    print(to_text(result))
    for path in map(Path, outputs):
        text = {
            ".json": lambda: to_json(result),
            ".md": lambda: to_markdown(result),
            ".csv": lambda: to_csv(result),
        }[path.suffix]()
        with replacing(path) as aside:
            aside.write_text(text, encoding="utf-8")
