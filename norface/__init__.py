"""Norface: facial expression analysis by identity normalization (ECCV 2024), an open implementation."""

__version__ = "0.1.0"
