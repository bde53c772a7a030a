"""One HTML page of what a run, a cross-validation or the quickstart found."""

from norface.report.build import KeyFigure, build_report

__all__ = ["KeyFigure", "build_report"]
