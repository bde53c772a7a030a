"""Facial expression analysis by identity normalization: Norface (ECCV 2024), implemented openly."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from norface.analysis.analyzer import ActionUnit, Analyzer, FaceAnalysis

__all__ = ["ActionUnit", "Analyzer", "FaceAnalysis"]
__version__ = "0.1.0"

_ANALYZER = "norface.analysis.analyzer"


def __getattr__(name: str) -> Any:
    """What reads photographs, imported when it is asked for: `import norface` stays cheap."""
    if name in __all__:
        return getattr(importlib.import_module(_ANALYZER), name)
    raise AttributeError(f"module 'norface' has no attribute '{name}'")
