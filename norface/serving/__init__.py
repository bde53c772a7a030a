"""Trained networks behind MLflow's `predict`; a module a kind of file, loaded by name."""
