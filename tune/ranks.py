"""Several ranks of a trial on this machine; with --nodes, of one that reaches over several.

python -m tune.ranks --ranks 2 SWEEP/trials/0007
"""

from __future__ import annotations

import sys

from launchers.local import Place, launch
from norface.cli.arguments import Parser


def main() -> int:
    """Start the ranks and wait; returns their exit code."""
    parser = Parser("python -m tune.ranks", __doc__)
    parser.add_argument("--ranks", type=int, required=True, help="processes on this machine")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--node", type=int, default=0, help="which of the nodes this is, from 0")
    parser.add_argument("--address", default="127.0.0.1", help="of the first node")
    parser.add_argument("--port", type=int, default=0, help="a free one of the first node")
    parser.add_argument("folder")
    given = parser.parse_args()
    place = Place(given.nodes, given.node, given.address, given.port)
    command = [sys.executable, "-m", "tune.trial", given.folder]
    return launch(command, ranks=given.ranks, place=place)


if __name__ == "__main__":
    sys.exit(main())
