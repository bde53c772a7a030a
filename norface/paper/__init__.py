"""The paper's printed numbers, and ours beside them."""
