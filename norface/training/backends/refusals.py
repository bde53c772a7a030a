"""Networks that cannot be trained the way that was asked for, refused with the reason."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from norface.errors import ConfigError
from norface.training.backends.base import Backend, BackendConfig


def refuse_in_bf16(model: nn.Module) -> None:
    """Raise ConfigError for a network that weights in bf16 break (backend.weights=bf16)."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module) and has_spectral_norm(module):
            raise ConfigError(
                f"backend.weights: found bf16, but {type(model).__name__}.{name} has spectral norm,"
                " whose singular vectors it would round; set spectral_norm=false or"
                " backend.weights=fp32"
            )
        if isinstance(module, _BatchNorm):
            raise ConfigError(
                f"backend.weights: found bf16, but {type(model).__name__}.{name} is a"
                f" {type(module).__name__}, whose running statistics it would round; set"
                " backend.weights=fp32"
            )


def has_spectral_norm(module: nn.Module) -> bool:
    """Whether a parametrized module's weight is divided by its largest singular value."""
    applied = module.parametrizations.values()  # type: ignore[operator, union-attr]
    return any(type(one).__name__ == "_SpectralNorm" for chain in applied for one in chain)


def refuse_batch_norm(discriminator: nn.Module) -> None:
    """Raise ConfigError for a discriminator whose judgement depends on the rest of its batch.

    Each rank would have statistics of its own pictures, and real and fake ones would share them.
    """
    for name, module in discriminator.named_modules():
        if isinstance(module, _BatchNorm):
            raise ConfigError(
                f"discriminator: {name} is a {type(module).__name__}, whose statistics differ"
                " between ranks and between real and fake pictures; use GroupNorm or none"
            )


def refuse_split_bf16(config: BackendConfig, backend: Backend) -> None:
    """Raise ConfigError for weights in bf16 that lie in parts on the ranks, for stage nor.

    F_nor asks its discriminator without training it, and DeepSpeed takes the weights that this
    backward pass needs apart before it: seen to end in an error of the convolution.
    """
    if config.weights == "bf16" and backend.zero_stage == 3:
        raise ConfigError(
            "backend.weights: bf16 with backend.zero_stage 3 does not train F_nor; set"
            " backend.zero_stage=2 or backend.weights=fp32"
        )
