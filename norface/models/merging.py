"""Expression merging module: the original's expression into the target's tokens (eq. 1-2)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from norface.config import Config
from norface.models.attention import attend, choose_attention


class MergingConfig(Config):
    """Sizes of the merging module; its width is the encoder's."""

    heads: int = Field(12, gt=0)
    "Heads of the cross-attention and of the blocks."
    mlp_ratio: float = Field(4.0, gt=0)
    "Hidden width of the MLPs in units of their width."
    blocks: int = Field(2, ge=0)
    "Transformer blocks after the cross-attention; the paper has two."
    start: Literal["random", "aligned"] = "random"
    """random = as is usual. aligned = each token of the target begins by looking at the original's
    tokens of its own neighbourhood, and their values pass unchanged: for budgets of minutes, in
    which attention would not find its way. For tokens that carry their place as sines."""


class ExpressionMerging(nn.Module):
    """EMM: tokens e_o and e_t (N, P, L) => e_n (N, P, L).

    Per head V_fu = softmax(Q_t K_o^T / sqrt(d_k)) V_o + V_t; the heads are joined by an output
    projection; e_fu = V_fu + MLP(LN(V_fu)); then transformer blocks.
    """

    def __init__(self, config: MergingConfig, *, width: int, tokens: int):
        from timm.layers import Mlp
        from timm.models.vision_transformer import Block

        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        self.blocks = nn.Sequential(
            *(
                Block(width, config.heads, config.mlp_ratio, qkv_bias=True)
                for _ in range(config.blocks)
            )
        )
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.gradient_checkpointing = False
        choose_attention(self, tokens)
        if config.start == "aligned":
            self.align()

    SHARPNESS = 2.0
    "Of the aligned start: queries and keys are so many times the tokens."

    def align(self) -> None:
        """Queries, keys and values start as the tokens themselves."""
        for layer in (self.query, self.key, self.value, self.projection):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.query.weight.mul_(self.SHARPNESS)
            self.key.weight.mul_(self.SHARPNESS)

    def forward(self, original: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """e_o, e_t (N, P, L) => e_n (N, P, L)."""
        fused = self.fuse(original, target)
        fused = fused + self.mlp(self.norm(fused))
        if self.gradient_checkpointing and self.training:
            from timm.models import checkpoint_seq

            return self.last_norm(checkpoint_seq(self.blocks, fused))
        return self.last_norm(self.blocks(fused))

    def fuse(self, original: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """e_o, e_t (N, P, L) => V_fu of eq. 2 after the output projection (N, P, L)."""
        query, key = self.split(self.query(target)), self.split(self.key(original))
        value_original = self.split(self.value(original))
        value_target = self.split(self.value(target))
        merged = (attend(query, key, value_original) + value_target).transpose(1, 2)
        # Not flatten and unflatten: through these, ONNX would keep the number of pictures.
        return self.projection(merged.reshape(*target.shape))

    def split(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, P, L) => (N, heads, P, L / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
