"""Facial expression analysis by identity normalization: Norface (ECCV 2024), implemented openly."""

__version__ = "0.1.0"
