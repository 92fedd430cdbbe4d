"""Entry point of ``python -m wheel_resolver``."""

from __future__ import annotations

import sys

from matrix.cli import run
from wheel_resolver.cli import main

if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
