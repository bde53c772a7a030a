"""Write F_nor or F_cla as a file that runs without this package.

WEIGHTS is generator.safetensors or classifier.safetensors, or the folder of a run that holds one.
OUT ends with .pt2 (torch.export) or .onnx (needs the packages onnx and onnxruntime). The file is
opened again and compared with the network; it is there only when both agree to 1e-4. Names and
ranges of inputs, and the order of action units or emotions, are in its metadata under `norface`.

Example:
  norface export-model runs/nor generator.onnx
  norface export-model runs/cla/classifier.safetensors classifier.pt2
"""

from __future__ import annotations

import argparse
from pathlib import Path

FILES = ("generator.safetensors", "classifier.safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="file, or folder of a run")
    parser.add_argument("out", type=Path, metavar="OUT", help="file.pt2 or file.onnx")


def run(args: argparse.Namespace) -> None:
    """Export, check and say what the file takes."""
    from norface.errors import WeightsError
    from norface.exporting import export_model

    path = args.weights
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        if not found:
            raise WeightsError(f"{path}: holds none of {', '.join(FILES)}; train it to the end")
        path = found[0]
    done = export_model(path, args.out)
    about = done.about
    for kind in ("inputs", "outputs"):
        for name, one in about[kind].items():
            shape = "x".join(map(str, one["shape"]))
            order = f": {', '.join(one['order'])}" if "order" in one else ""
            print(f"{kind[:-1]} {name}: {shape}, {one['range']}{order}")
    print(f"{done.path}: {about['network']}, differs from {path} by {done.difference:.1e} at most")
