"""`make bench-resolver`: how fast the resolver is next to `import requests`, how it grows, and who answers right.

    PYTHONPATH=. python tests/bench/bench_resolver.py [--pairs N] [--json]

One run measures both sides in turn, so that whatever else the machine does falls on both. The answers of others for
the same cells (`comparison.py`) come from the package index, and a row that cannot be had says why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import comparison
import synthetic
from github_list import releases

from matrix import load_project
from wheel_resolver.asking.answer import answer_cells
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match

ROOT = Path(__file__).resolve().parents[2]

QUESTION = ["-m", "wheel_resolver", "--torch", "2.9", "--python", "3.12", "--json"]
REQUESTS = ["-c", "import requests"]
SIZES = (100, 1_000, 10_000, 100_000)
WHEELS = 20_000


class Handler(BaseHTTPRequestHandler):
    """One page of releases, whatever is asked."""

    body = b"[]"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        """Keep the terminal for the result."""


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """The wall time of one Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment, cwd=ROOT)
    return time.perf_counter() - start


def measure_warm(pairs: int) -> dict[str, Any]:
    """The question against `import requests`, warm: the catalogue is cached and both are compiled."""
    Handler.body = json.dumps(releases()).encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hidden = {"PYTHONDONTWRITEBYTECODE", "GH_TOKEN", "GITHUB_TOKEN"}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {
            "GITHUB_API_URL": f"http://127.0.0.1:{server.server_address[1]}",
            "WHEELWRIGHT_CACHE": f"{folder}/cache",
            "PYTHONPYCACHEPREFIX": f"{folder}/compiled",
        }
        for _ in range(2):
            seconds(QUESTION, environment)
            seconds(REQUESTS, environment)
        server.shutdown()  # from here on only the cache can answer
        server.server_close()
        answer = subprocess.run(
            [sys.executable, *QUESTION], check=True, capture_output=True, env=environment, cwd=ROOT, text=True
        )
        ours, theirs = [], []
        for _ in range(pairs):
            ours.append(seconds(QUESTION, environment))
            theirs.append(seconds(REQUESTS, environment))
    return {
        "source": json.loads(answer.stdout)["catalogue"]["source"],
        "ours_s": statistics.median(ours),
        "requests_s": statistics.median(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "pairs": pairs,
    }


def answer_many(count: int) -> dict[str, Any]:
    """Answer so many cells in this process: resolutions and alternatives; the catalogue is indexed anew."""
    project = load_project()
    wheels = synthetic.wheels(project.compat, WHEELS)
    cells = list(synthetic.cells(project.compat, count))
    start = time.perf_counter()
    index = WheelIndex(wheels, Facts(project.compat, project.known_broken), default_policy(project.compat))
    answers = answer_cells(cells, index)
    wall = time.perf_counter() - start
    matched = sum(isinstance(answer.resolution, Match) for answer in answers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cells": count, "wheels": len(wheels), "seconds": wall, "peak_mib": peak, "matched": matched}


def measure_growth() -> list[dict[str, Any]]:
    """Each size in a process of its own, so that its peak memory is its own."""
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--child", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        rows.append(json.loads(done.stdout))
    return rows


def show(warm: dict[str, Any], growth: list[dict[str, Any]]) -> str:
    """The result as the documentation has it."""
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; one run",
        "",
        "| warm, median of " + f"{warm['pairs']} pairs | seconds |",
        "|---|---|",
        f"| `python {' '.join(QUESTION)}` ({warm['source']}) | {warm['ours_s']:.3f} |",
        f"| `python -c 'import requests'` | {warm['requests_s']:.3f} |",
        f"| ratio | {warm['ratio']:.2f} |",
        "",
        f"| cells, against {WHEELS:,} wheels | seconds | a cell | peak memory | log scale |",
        "|---|---|---|---|---|",
    ]
    for row in growth:
        bar = "#" * max(1, round(8 * math.log10(row["seconds"] / 0.1)))
        each = row["seconds"] / row["cells"] * 1e6
        lines.append(
            f"| {row['cells']:,} | {row['seconds']:.2f} | {each:,.0f} us | {row['peak_mib']:.0f} MiB | `{bar}` |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(answer_many(options.child)))
        return
    warm, growth = measure_warm(options.pairs), measure_growth()
    answers = comparison.compare()
    if options.json:
        print(json.dumps({"warm": warm, "growth": growth, "answers": answers.as_data()}, indent=1))
    else:
        print(f"{show(warm, growth)}\n\n{answers.show()}")


if __name__ == "__main__":
    main()
