"""`python -m norface` is `norface`: what launchers start on every rank."""

import sys

from norface.cli.main import main

sys.exit(main())
