"""From a photograph to what its faces show; see analyzer.py."""
