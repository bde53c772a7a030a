"""How hard each loss of F_nor pulls at the picture, under both norms: `norface critics shares`."""

from __future__ import annotations

from typing import Any

from norface.losses.distance import Norm
from norface.losses.judging import Judging, gradient_shares
from norface.losses.weighted import Norms
from norface.training.run import running_backend
from norface.training.seeding import seed_everything
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig

NORMS: tuple[Norm, ...] = ("mse", "l2")


def measure_shares(config: NorConfig) -> dict[str, Any]:
    """Losses and gradient shares of the first batch, for every term that can be measured.

    The generator is that of `config.generator`, or a fresh one. Returns {"generator", "pairs",
    "self_pairs", "terms": {term: {"weight", norm: {"loss", "share"}}}}; share is None for a term
    that is not trained on. Raises what building the stage raises.
    """
    with running_backend(config.backend) as backend:
        seed_everything(config.seed)
        stage = NorStage(config, backend)
        critics = stage.judging.critics
        batch = next(stage.batches(0))
        original, target = stage.to_device(batch["original"]), stage.to_device(batch["target"])
        is_self = batch["is_self"].to(backend.device)
        terms: dict[str, dict[str, Any]] = {}
        for norm in NORMS:
            norms = Norms(**dict.fromkeys(Norms.model_fields, norm))
            weights = config.losses.model_copy(update={"norm": norms})
            stage.judging = Judging(critics, weights)
            with backend.autocast():
                normalized = stage.generator(original, target)
            losses = stage.judge(
                original, target, normalized, is_self, known=None, measure_all=True,
                pairs=backend.all_reduce_sum(is_self.sum().float()),
            )  # fmt: skip
            if weights.adv is not None:
                losses["adv"] = stage.ask_discriminator(normalized, target)
            shares = gradient_shares(losses, weights, normalized)
            for term in weights.present:
                if term in losses:
                    row = terms.setdefault(term, {"weight": getattr(weights, term)})
                    share = float(shares[term]) if term in shares else None
                    row[norm] = {"loss": float(losses[term].detach()), "share": share}
    return {
        "generator": str(config.generator) if config.generator else "fresh weights",
        "pairs": len(original),
        "self_pairs": int(is_self.sum()),
        "terms": terms,
    }


def format_shares(table: dict[str, Any]) -> str:
    """The table for a person."""
    heads = "".join(f"{f'loss {norm}':>12}{'share':>8}" for norm in NORMS)
    lines = [
        f"{table['pairs']} pairs, {table['self_pairs']} of them self pairs; generator:"
        f" {table['generator']}",
        f"{'term':<6}{'weight':>10}{heads}",
    ]
    for term, row in table["terms"].items():
        cells = ""
        for norm in NORMS:
            share = row[norm]["share"]
            shown = "-" if share is None else f"{share:.1%}"
            cells += f"{row[norm]['loss']:>12.4g}{shown:>8}"
        lines.append(f"{term:<6}{row['weight']:>10g}{cells}")
    return "\n".join(lines)
