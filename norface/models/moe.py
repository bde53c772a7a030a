"""Mixture of experts with a noisy top-k router (section 3.2; Shazeer et al., arXiv 1701.06538).

    p(x) = softmax(x W_g + eps * softplus(x W_noise)),   eps ~ N(0, 1) in training, 0 else
    G(x) = the k largest of p(x), the others 0
    y    = sum_e G_e(x) expert_e(x)

The paper prints G(x) = Topk(softmax(x W_g + eps) softplus(x W_noise)), a bracket away from the
source that it cites: `router: printed` builds that.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from norface.config import Config, Misfit


class MoEConfig(Config):
    """One MoE block."""

    experts: int = Field(4, ge=0)
    "Experts (the paper's m); 0 = no router, one plain MLP of an expert's size."
    top_k: int = Field(2, gt=0)
    "Experts that answer for a sample (the paper's k)."
    hidden_ratio: float = Field(4.0, gt=0)
    "Hidden width of an expert over its input width."
    router: Literal["noisy", "printed"] = "noisy"
    "noisy = Shazeer et al.; printed = the formula as the paper prints it."
    renormalize: bool = False
    "Scale the k chosen weights to the sum 1."

    @model_validator(mode="after")
    def _k_of_m(self) -> MoEConfig:
        if self.experts and self.top_k > self.experts:
            raise Misfit(f"'.top_k' {self.top_k} is more than '.experts' {self.experts}")
        return self


class RouterStatistics(NamedTuple):
    """What the router decided for a batch, with gradient: the input of equations (12) and (13)."""

    probabilities: torch.Tensor
    "p(expert | x) before top-k, (B, m), rows sum to 1."
    gates: torch.Tensor
    "G(x) after top-k, (B, m), at most k entries of a row differ from 0."


class ExpertMLP(nn.Sequential):
    """(B, width) => (B, width): linear, GELU, linear."""

    def __init__(self, width: int, hidden: int):
        first, second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(first, nn.GELU(), second)
        # Blocks follow one another without a residual path: torch's own start would shrink the
        # differences between samples threefold in each, and small trainings would not get going.
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(second.weight, nonlinearity="linear")
        for layer in (first, second):
            nn.init.zeros_(layer.bias)


class SingleLinear(nn.Linear):
    """A product in fp32, where the weights are held in bf16 (ZeRO) too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x.float(), self.weight.float())


class Router(nn.Module):
    """x (B, width) => RouterStatistics over m experts."""

    def __init__(self, width: int, config: MoEConfig):
        super().__init__()
        self.config = config
        self.gate = SingleLinear(width, config.experts, bias=False)
        self.noise = SingleLinear(width, config.experts, bias=False)
        # Nearly equal chances at the start: noise, not the initial weights, spreads the samples.
        nn.init.normal_(self.gate.weight, std=0.01)
        nn.init.zeros_(self.noise.weight)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None) -> RouterStatistics:
        """`noise`: standard normal (B, m), one row a sample, or None outside training."""
        # Routing is decided in fp32: under autocast, ties of bf16 would choose by expert number.
        with torch.autocast(x.device.type, enabled=False):
            logits, spread = self._logits(x.float())
            if self.config.router == "noisy":
                noisy = logits if noise is None else logits + noise * spread
                probabilities = noisy.softmax(dim=1)
                scores = probabilities
            else:
                noisy = logits if noise is None else logits + noise
                probabilities = noisy.softmax(dim=1)
                scores = probabilities * spread
            top, chosen = scores.topk(self.config.top_k, dim=1)
            if self.config.renormalize:
                top = top / top.sum(dim=1, keepdim=True)
            gates = torch.zeros_like(scores).scatter(1, chosen, top)
        return RouterStatistics(probabilities, gates)

    def _logits(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gate(x), functional.softplus(self.noise(x))


class MixtureOfExperts(nn.Module):
    """x (B, width) => y (B, width) and the router's statistics (None where m = 0).

    No sample is ever dropped: the rows that chose an expert are gathered, pass through it as one
    matrix product, and are added back under their gates.
    """

    def __init__(self, width: int, config: MoEConfig):
        super().__init__()
        hidden = round(width * config.hidden_ratio)
        self.config = config
        self.every_expert = False
        """Whether every sample passes through every expert, most under a gate of 0: the same answer
        from a graph that does not depend on the data, for `norface export-model`."""
        self.router = Router(width, config) if config.experts else None
        self.experts = nn.ModuleList(
            ExpertMLP(width, hidden) for _ in range(max(config.experts, 1))
        )

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, RouterStatistics | None]:
        """`noise`: standard normal (B, m) keyed by sample, in training only."""
        if self.router is None:
            return self.experts[0](x), None
        statistics = self.router(x, noise)
        if self.every_expert:
            answers = torch.stack([expert(x) for expert in self.experts], dim=1)
            return (answers * statistics.gates.unsqueeze(2)).sum(dim=1), statistics
        return self._dispatch(x, statistics.gates), statistics

    def _dispatch(self, x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        # Pairs of expert and sample in the order of experts: one gather, m products, one scatter.
        # Gates that underflow to 0 add nothing and fall out with the experts not chosen.
        expert, sample = gates.t().nonzero(as_tuple=True)
        counts = torch.bincount(expert, minlength=len(self.experts)).tolist()
        # An expert without rows still multiplies an empty matrix: its gradient is then 0 rather
        # than missing, which DistributedDataParallel would wait for.
        parts = x.index_select(0, sample).split(counts)
        answers = torch.cat([net(part) for net, part in zip(self.experts, parts, strict=True)])
        weighted = answers * gates.t()[expert, sample].unsqueeze(1).to(answers.dtype)
        empty = answers.new_zeros(x.shape[0], answers.shape[1])
        return empty.index_add(0, sample, weighted)
