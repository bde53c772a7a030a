"""Entry point: finds the verb, turns a user's mistake into one line."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from norface import __version__
from norface.allocator import keep_freed_memory
from norface.cli.arguments import Parser
from norface.errors import NorfaceError

VERBS = {
    "quickstart": "everything below, small, on synthetic faces, with a report at the end",
    "synth": "write the embedded corpus of synthetic faces",
    "prepare": "a corpus or a folder of photographs => aligned shards",
    "check": "counts, label rates and damaged files of shards, or of a corpus as it was handed out",
    "train": "train one stage: mae, critic, nor or cla",
    "targets": "target faces: candidates, checks, originals on several of them",
    "normalize": "shards x target identity => normalized shards",
    "analyze": "photographs => normalized faces, action units, emotion",
    "export": "shards or a normalized set => a folder of pictures to release",
    "export-model": "F_nor or F_cla as torch.export or ONNX, checked against the original",
    "evaluate": "metrics from predictions; how good normalized sets are",
    "crossval": "subject-exclusive cross-validation of the classifier",
    "compare": "folds of cross-validations side by side, with paired tests",
    "critics": "the frozen judges: which there are, whether they work, how hard each pulls",
    "paper": "a table of the paper, ours beside the printed numbers",
    "track": "feed MLflow from run folders",
    "doctor": "whether this machine, its ranks and the files of a config are fit to train",
    "bench": "speed and memory of loading, index, preparation, tracking; the renderer",
}
"Verb => its line in `norface --help`; the code of a verb is norface/cli/VERB.py, - being _."

_REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE,
)  # fmt: skip
"What a machine refuses; no mistake of ours, whatever place of the code meets it first."


def build_overview() -> str:
    """The text of `norface --help`, without importing any verb."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: norface VERB ...",
            "",
            "Identity normalization for facial expression analysis.",
            "",
        ]
        + lines
        + [
            "",
            "norface VERB --help tells more, with an example.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb. Returns the exit code: 0 done, 1 failed or stopped, 2 the user's mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(build_overview())
        return 0
    if words[0] == "--version":
        print(f"norface {__version__}")
        return 0
    verb = words.pop(0)
    if verb not in VERBS:
        print(f"norface: unknown verb '{verb}'; there are: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    keep_freed_memory()
    module = importlib.import_module(f"norface.cli.{verb.replace('-', '_')}")
    parser = Parser(f"norface {verb}", module.__doc__)
    module.add_arguments(parser)
    try:
        return module.run(parser.parse_intermixed_args(words)) or 0
    except NorfaceError as error:
        print(f"norface {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"norface {verb}: stopped by the keyboard", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        print(f"norface {verb}: {error.filename}: {error.strerror}; mend that", file=sys.stderr)
        return 2
