"""Which way of computing attention is the faster one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

FEW_TOKENS = 128
"""Up to so many tokens the plain formula wins on a CPU: at 64 tokens, forward and backward, torch's
fused kernel took twice as long in fp32 and twelve times as long in bf16."""


def prefers_fused(tokens: int) -> bool:
    """Whether to use torch's fused attention among `tokens` tokens."""
    return torch.cuda.is_available() or tokens > FEW_TOKENS


def choose_attention(model: nn.Module, tokens: int) -> None:
    """Set timm's attention modules inside `model` to the faster way for `tokens` tokens."""
    from timm.models.vision_transformer import Attention  # as slow as norface.models.vit says

    for module in model.modules():
        if isinstance(module, Attention):
            setattr(module, "fused_attn", prefers_fused(tokens))  # noqa: B010


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d_k)) V; query (N, H, P, d), key and value (N, H, R, d)."""
    if prefers_fused(key.shape[2]):
        return F.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return scores.softmax(-1) @ value
