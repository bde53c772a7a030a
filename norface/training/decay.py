"""Which parameters weight decay draws towards 0."""

from __future__ import annotations

from torch import nn

EXEMPT = ("cls_token", "mask_token", "pos_embed")
"Tables of a transformer that are no maps, although they have several axes (as in MAE's recipe)."


def decays(name: str, parameter: nn.Parameter) -> bool:
    """True for matrices and kernels; False for biases, norms, tokens and positions."""
    return parameter.ndim > 1 and name.rpartition(".")[2] not in EXEMPT
