"""A loss that is not finite: which term, on which rank, of which pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, stack

SHOWN = 4
"Keys of a batch that are named."


def loss_terms(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a step's metrics that must be finite: names without a slash."""
    return {name: value for name, value in metrics.items() if "/" not in name}


def describe_non_finite(losses: Mapping[str, Tensor], keys: Sequence[str], rank: int) -> str:
    """`exp not finite on rank 1, batch a, b`, where one of these scalars is NaN or infinite; else
    nothing. Waits for the device. `loss`, the sum, is named only where no term is to blame."""
    if not losses:
        return ""
    finite = stack([value.detach().float().cpu() for value in losses.values()]).isfinite()
    bad = [name for name, good in zip(losses, finite.tolist(), strict=True) if not good]
    if not bad:
        return ""
    terms = [name for name in bad if name != "loss"] or bad
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    shown = ", ".join(keys[:SHOWN]) + more
    return f"{', '.join(terms)} not finite on rank {rank}, batch {shown or 'without keys'}"
