"""`make soak`: many clients, on loopback, that ask well, ask badly, and go away; then the service must be as before.

    python tests/serve/soak.py --seconds 600 --clients 64
    python tests/serve/soak.py --verify     # seeded answers under load against those made alone, bit for bit

Every answer has a status that its request may have, its own request id, and with 200 sound that can be decoded; every
request that was waited for has an answer; afterwards threads, file descriptors and tasks are those of after the
warm-up, memory is that of the middle of the load, and the folder of the voices holds the listed ones and no other.
The report is JSON on stdout; the exit status is 1 when something of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from soak_asks import MODEL
from soak_clients import Report, Soak, Usage, connect
from soak_seeded import KEYS, SEEDED
from soak_verified import VerifiedSoak

ROOT = Path(__file__).parents[2]
# Low enough that 64 clients meet it: a 429 is one of the answers that are tried.
SETTINGS = {
    "WW_HOST": "127.0.0.1", "WW_MAX_WAITING": "40", "WW_MAX_BODY_MIB": "2", "WW_LOG_LEVEL": "warning",
    "WW_MODEL_ID": MODEL,
}  # fmt: skip
START_S, END_S = 120.0, 30.0
# What the allocator may keep of pages that it freed in an order of its own.
SLACK_MIB, SLACK_SHARE = 48.0, 0.05
SLACK_COUNT = 2


def compare(before: Usage, after: Usage, warm_mib: float) -> list[str]:
    """What there is more of after the load than before it; of memory, than in its middle."""
    problems = []
    if after.rss_mib - warm_mib > SLACK_MIB + SLACK_SHARE * warm_mib:
        problems.append(f"memory grew from {warm_mib:g} to {after.rss_mib:g} MiB")
    for name in ("threads", "descriptors", "tasks"):
        was, is_now = getattr(before, name), getattr(after, name)
        if is_now > was + SLACK_COUNT:
            problems.append(f"{name} grew from {was} to {is_now}")
    return problems


async def drive(process: subprocess.Popen[bytes], port: int, report: Report, data: Path, kind: type[Soak]) -> None:
    """Warm up, settle, load, settle, compare; ``data`` is the folder of the voices."""
    async with connect(f"http://127.0.0.1:{port}") as client:
        await _wait_ready(client, process)
        soak = kind(client, process, report)
        await soak.prepare()
        await soak.load(max(3.0, min(60.0, report.seconds / 4)), seed=0)
        report.before = await soak.settle()
        await soak.load(report.seconds, seed=1)
        report.after = await soak.settle()
        await soak.compare_voices(data)
    # The allocator is not at its most after a short warm-up: what counts is that memory stops growing.
    middle = report.rss_mib[len(report.rss_mib) // 2]
    report.problems += compare(report.before, report.after, max(report.before.rss_mib, middle))


async def _wait_ready(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if (await client.get("/ready")).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the service does not start")
        await asyncio.sleep(0.1)


def run(seconds: float, clients: int, model_dir: Path, log: Path, *, verify: bool = False) -> Report:
    """Start the service, load it, and end it."""
    report = Report(seconds, clients)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **SETTINGS}
    data = log.parent / "data"
    environment |= {"WW_PORT": str(port), "WW_MODEL_DIR": str(model_dir), "WW_DATA_DIR": str(data)}
    if verify:
        environment["WW_API_KEYS"] = ",".join(f"{key.partition('-')[0]}:{key}" for key in KEYS)
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "serve"], env=environment, cwd=log.parent, stderr=stderr)
    try:
        asyncio.run(drive(process, port, report, data, VerifiedSoak if verify else Soak))
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=END_S)
        if status != 0:
            report.problem(f"exit status {status} after SIGTERM")
    finally:
        process.kill()
        process.wait()
        said_last = log.read_text(errors="replace").splitlines()[-50:]
    report.problems += [f"log: {line}" for line in said_last]
    return report


def main() -> int:
    """Run it and print the report; 1 when there are problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="of load after the warm-up (default: 600; with --verify 300)")
    parser.add_argument("--clients", type=int, help="default: 64; with --verify 32")
    parser.add_argument(
        "--verify", action="store_true", help="compare seeded answers with those made alone, by SHA-256"
    )
    parser.add_argument("--model-dir", type=Path, help="a checkpoint; default: the tiny one, made for this")
    options = parser.parse_args()
    seconds = options.seconds or (300.0 if options.verify else 600.0)
    clients = options.clients or (32 if options.verify else 64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model_dir = options.model_dir
        if model_dir is None:
            model_dir = folder / "tiny"
            subprocess.run(
                [sys.executable, "-m", "serve.tiny", str(model_dir)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        report = run(seconds, clients, model_dir.resolve(), folder / "log", verify=options.verify)
    held = {name: None if use is None else {key: getattr(use, key) for key in Usage.__slots__}
            for name, use in (("before", report.before), ("after", report.after))}  # fmt: skip
    answers = {name: dict(sorted(counts.items())) for name, counts in sorted(report.answers.items())}
    total = sum(sum(counts.values()) for counts in report.answers.values())
    document = {"seconds": report.seconds, "clients": report.clients, "requests": total, "answers": answers}
    if report.compared is not None:
        document |= {
            "seeded_kinds": len(SEEDED),
            "compared": report.compared.total(),
            "compared_kinds": len(report.compared),
        }
    print(json.dumps(document | held | {"rss_mib": report.rss_mib, "problems": report.problems}, indent=2))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
