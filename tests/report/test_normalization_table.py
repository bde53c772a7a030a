"""The figures of `norface evaluate normalization` as JSON."""

import json
import math

from norface.report.normalization_table import to_json


def test_what_is_not_known_is_null_for_every_reader_of_json():
    interval = {"value": 0.5, "low": math.nan, "high": math.inf}
    result = {"sets": {"ours": {"fid": interval}}, "tests": [{"t": -math.inf, "df": 3}],
              "chance_rank1": math.nan, "notes": ["none"]}  # fmt: skip
    text = to_json(result)
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text) == {
        "sets": {"ours": {"fid": {"value": 0.5, "low": None, "high": None}}},
        "tests": [{"t": None, "df": 3}],
        "chance_rank1": None,
        "notes": ["none"],
    }
