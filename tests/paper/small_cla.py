"""A classifier that trains in a second on marked faces."""

CLASSIFIER = {
    "units": [1, 12],
    "epochs": 1,
    "model": {"extractor": "conv", "conv": {"side": 16, "channels": [8, 8], "width": 16}},
    "trainer": {"batch_per_rank": 8},
    "backend": {"device": "cpu"},
}
