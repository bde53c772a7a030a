"""Face encoder: a vision transformer that keeps its patch tokens (eq. 1)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from norface.config import Config, Misfit
from norface.models.attention import choose_attention


class VitConfig(Config):
    """Sizes of a vision transformer. ViT-B/16 at 256x256 by default; the paper prints no size."""

    kind: Literal["vit"] = "vit"
    "A vision transformer."
    side: int = Field(256, gt=0)
    "Side of the picture in pixels."
    patch: int = Field(16, gt=0)
    "Side of a patch in pixels."
    width: int = Field(768, gt=0)
    "L: numbers a token."
    depth: int = Field(12, gt=0)
    "Transformer blocks."
    heads: int = Field(12, gt=0)
    "Attention heads of a block."
    mlp_ratio: float = Field(4.0, gt=0)
    "Hidden width of a block's MLP in units of its width."
    class_token: bool = True
    "Carry a class token through the blocks (MAE weights have one); it is dropped at the end."
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    "Per-channel mean, on 0..1, that the weights expect; MAE's want ImageNet's 0.485 0.456 0.406."
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    "Per-channel standard deviation, on 0..1; ImageNet's is 0.229 0.224 0.225."
    gradient_checkpointing: bool = False
    "Recompute the blocks in the backward pass: less memory, a third more work."

    @model_validator(mode="after")
    def _check_divisions(self) -> VitConfig:
        if self.side % self.patch:
            raise Misfit(f"'.side' {self.side} is not a multiple of '.patch' {self.patch}")
        if self.width % self.heads:
            raise Misfit(f"'.width' {self.width} is not a multiple of '.heads' {self.heads}")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side; P = grid^2."""
        return self.side // self.patch


class FaceEncoder(nn.Module):
    """E_s: images (N, 3, S, S), -1..1 => tokens (N, P, L), row by row, without class token."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, config: VitConfig):
        # timm takes seconds to import, and whoever reads a config alone builds no network.
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.config = config
        self.vit = VisionTransformer(
            img_size=config.side,
            patch_size=config.patch,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            class_token=config.class_token,
            num_classes=0,
            global_pool="",
        )
        choose_attention(self.vit, config.grid**2)
        self.vit.set_grad_checkpointing(config.gradient_checkpointing)
        # x * 0.5 + 0.5 brings -1..1 to 0..1, where mean and std are given: one scale and one shift.
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        self.register_buffer("scale", (0.5 / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((0.5 - mean) / std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images (N, 3, S, S), -1..1 => tokens (N, P, L)."""
        tokens = self.vit.forward_features(images * self.scale + self.shift)
        return tokens[:, self.vit.num_prefix_tokens :]

    def encode_visible(self, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Only some patches go through the blocks, as a masked auto-encoder wants it.

        images (N, 3, S, S), -1..1, and positions (N, K), int64, counted row by row => tokens
        (N, K, L) in the order of `visible`; with a class token (N, 1 + K, L), that one first.
        """
        vit = self.vit
        assert vit.pos_embed is not None
        prefix = vit.num_prefix_tokens
        tokens = vit.patch_embed(images * self.scale + self.shift) + vit.pos_embed[:, prefix:]
        tokens = tokens.gather(1, visible[:, :, None].expand(-1, -1, tokens.shape[2]))
        if vit.cls_token is not None:
            first = vit.cls_token + vit.pos_embed[:, :prefix]
            tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
        if vit.grad_checkpointing and self.training:
            from timm.models import checkpoint_seq

            return vit.norm(checkpoint_seq(vit.blocks, tokens))
        return vit.norm(vit.blocks(tokens))
