"""Masked auto-encoder: what E_s and E_f are pre-trained as (section 3.1; He et al. 2022).

Most patches of a face are hidden, the encoder sees the others, and a light decoder predicts the
pixels of the hidden ones. Afterwards the decoder is thrown away.

    model = MaskedAutoencoder(MaskedAutoencoderConfig())
    order = torch.randperm(256)[None]                                 # the first quarter is seen
    predicted = model(images, order)                                  # (1, 256, 3 * 16 * 16)
    loss = model.loss(predicted, images, order)
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import nn

from norface.config import Config, Misfit
from norface.models.attention import choose_attention
from norface.models.vit import FaceEncoder, VitConfig


class MaeDecoderConfig(Config):
    """Sizes of the light decoder; the defaults are those of the paper on masked auto-encoders."""

    width: int = Field(512, gt=0)
    "Numbers a token."
    depth: int = Field(8, gt=0)
    "Transformer blocks."
    heads: int = Field(16, gt=0)
    "Attention heads of a block."
    mlp_ratio: float = Field(4.0, gt=0)
    "Hidden width of a block's MLP in units of its width."


class MaskedAutoencoderConfig(Config):
    """What is pre-trained, and what it is asked. The default encoder is ViT-B/16 at 256x256."""

    encoder: VitConfig = VitConfig()
    "The face encoder: all that is kept."
    decoder: MaeDecoderConfig = MaeDecoderConfig()
    "What draws the hidden patches."
    hidden_share: float = Field(0.75, gt=0, lt=1)
    "Share of the patches that is hidden."
    normalize_patches: bool = True
    "Predict each patch less its own mean, divided by its own spread: its structure, not its light."

    @model_validator(mode="after")
    def _check_sizes(self) -> MaskedAutoencoderConfig:
        for name, width in (("encoder", self.encoder.width), ("decoder", self.decoder.width)):
            if width % 4:
                raise Misfit(f"'.{name}.width' {width}: sine positions need a multiple of 4")
        if self.decoder.width % self.decoder.heads:
            raise Misfit(
                f"'.decoder.width' {self.decoder.width} is not a multiple of '.decoder.heads'"
                f" {self.decoder.heads}"
            )
        if not 0 < self.visible < self.encoder.grid**2:
            raise Misfit(
                f"'.hidden_share' {self.hidden_share}: of {self.encoder.grid**2} patches"
                f" {self.visible} would be visible; at least one must be seen and one hidden"
            )
        return self

    @property
    def visible(self) -> int:
        """K: patches that the encoder sees."""
        return int(self.encoder.grid**2 * (1 - self.hidden_share))


class MaskedAutoencoder(nn.Module):
    """Encoder and light decoder. The first K of an `order` (N, P) of patches are visible."""

    place: torch.Tensor

    def __init__(self, config: MaskedAutoencoderConfig):
        from timm.models.vision_transformer import Block

        super().__init__()
        self.config = config
        width, grid = config.decoder.width, config.encoder.grid
        self.encoder = FaceEncoder(config.encoder)
        self.enter = nn.Linear(config.encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    width,
                    config.decoder.heads,
                    config.decoder.mlp_ratio,
                    qkv_bias=True,
                )
                for _ in range(config.decoder.depth)
            )
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, 3 * config.encoder.patch**2)
        prefix = self.encoder.vit.num_prefix_tokens
        self.register_buffer("place", sine_places(width, grid, prefix), persistent=False)
        choose_attention(self.encoder.vit, config.visible)
        choose_attention(self.blocks, grid**2)
        self._start()

    def _start(self) -> None:
        """Fresh weights as the paper on masked auto-encoders draws them; fixed sine positions."""
        vit = self.encoder.vit
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(vit.patch_embed.proj.weight.view(self.config.encoder.width, -1))
        nn.init.normal_(self.mask_token, std=0.02)
        if vit.cls_token is not None:
            nn.init.normal_(vit.cls_token, std=0.02)
        assert vit.pos_embed is not None
        places = sine_places(
            self.config.encoder.width, self.config.encoder.grid, vit.num_prefix_tokens
        )
        vit.pos_embed.data.copy_(places)
        vit.pos_embed.requires_grad_(False)

    def forward(self, images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """images (N, 3, S, S), -1..1, order (N, P), int64 => predicted patches (N, P, 3 p p)."""
        seen = self.enter(self.encoder.encode_visible(images, order[:, : self.config.visible]))
        prefix = self.encoder.vit.num_prefix_tokens
        hidden = self.mask_token.expand(len(seen), order.shape[1] - self.config.visible, -1)
        shuffled = torch.cat([seen[:, prefix:], hidden.to(seen.dtype)], dim=1)
        back = order.argsort(dim=1)[:, :, None].expand(-1, -1, seen.shape[2])
        tokens = torch.cat([seen[:, :prefix], shuffled.gather(1, back)], dim=1) + self.place
        # Of the blocks' own type: where weights are bf16 (ZeRO), the positions stay fp32.
        tokens = tokens.to(self.mask_token.dtype)
        if self.config.encoder.gradient_checkpointing and self.training:
            from timm.models import checkpoint_seq

            tokens = checkpoint_seq(self.blocks, tokens)
        else:
            tokens = self.blocks(tokens)
        return self.predict(self.norm(tokens))[:, prefix:]

    def loss(
        self, predicted: torch.Tensor, images: torch.Tensor, order: torch.Tensor
    ) -> torch.Tensor:
        """Mean of squares over the hidden patches; 1 is what predicting their mean would give."""
        wanted, _, _ = self.targets(images)
        error = (predicted.float() - wanted).square().mean(dim=2)
        return error.gather(1, order[:, self.config.visible :]).mean()

    def targets(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is to be predicted (N, P, 3 p p), and mean and spread that bring it back to -1..1.

        Without `normalize_patches` these are 0 and 1.
        """
        patches = to_patches(images.float(), self.config.encoder.patch)
        mean, spread = torch.zeros_like(patches[..., :1]), torch.ones_like(patches[..., :1])
        if self.config.normalize_patches:
            mean = patches.mean(dim=2, keepdim=True)
            spread = (patches.var(dim=2, keepdim=True) + 1e-6).sqrt()
        return (patches - mean) / spread, mean, spread

    def show(self, images: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """images (N, 3, S, S), -1..1 => masked (grey where hidden) and reconstructed ones.

        Visible patches are the picture's own. A predicted patch gets the true patch's mean and
        spread where the network was not asked for them (`normalize_patches`).
        """
        patch = self.config.encoder.patch
        _, mean, spread = self.targets(images)
        drawn = self(images, order).float() * spread + mean
        hidden = order.argsort(dim=1)[:, :, None] >= self.config.visible
        own = to_patches(images.float(), patch)
        masked = torch.where(hidden, torch.zeros_like(own), own)
        return to_picture(masked, patch), to_picture(torch.where(hidden, drawn, own), patch)


def to_patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(N, 3, S, S) => (N, P, 3 p p), patches row by row, in a patch pixel by pixel, RGB inmost."""
    return images.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 4, 5, 1).reshape(
        len(images), -1, 3 * patch * patch
    )  # fmt: skip


def to_picture(patches: torch.Tensor, patch: int) -> torch.Tensor:
    """(N, P, 3 p p) => (N, 3, S, S), the way back of `to_patches`."""
    grid = round(patches.shape[1] ** 0.5)
    blocks = patches.reshape(len(patches), grid, grid, patch, patch, 3)
    return blocks.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), 3, grid * patch, grid * patch)


def sine_places(width: int, grid: int, prefix: int) -> torch.Tensor:
    """Fixed positions (1, prefix + grid^2, width): zeros for the class token, then per patch sines
    and cosines of its column (first half) and its row (second half), of periods 2 pi to 20,000 pi.
    """
    rates = 10_000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [where.reshape(-1, 1) * rates for where in (columns, rows)]
    waves = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(prefix, width), waves.float()])[None]
