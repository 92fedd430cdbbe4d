"""`make bench-latency`: how long a small answer and the first bytes of a stream take, on fresh and on kept connections.

The same app on the tiny checkpoint, behind two listeners in one run: the service's own, and the one that
``socket.create_server`` makes, on whose connections asyncio leaves Nagle's algorithm on. A kept connection shows the
difference: there the last part of an answer waits for the caller's delayed acknowledgement.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import uvicorn  # noqa: E402

from images.wav import reference_voice  # noqa: E402
from serve.server import make_config, open_socket  # noqa: E402
from serve.service import Service  # noqa: E402
from serve.settings import read_settings  # noqa: E402
from serve.tiny import write_tiny  # noqa: E402

ASKS, STREAMS = 200, 20


@contextlib.contextmanager
def serving(listener: socket.socket) -> Iterator[int]:
    """The app behind a listener, ready; its port."""
    server = uvicorn.Server(make_config(Service(read_settings(), None)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    try:
        while ask(port)("GET", "/ready", None)[0] != http.HTTPStatus.OK:
            time.sleep(0.1)
        yield port
    finally:
        server.should_exit = True
        thread.join()


def ask(port: int, *, kept: bool = False) -> Callable[[str, str, bytes | None], tuple[int, float]]:
    """A function that asks, on one connection or each time on a new one: status, seconds until the first bytes."""
    held = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def once(method: str, path: str, body: bytes | None) -> tuple[int, float]:
        connection = held if kept else http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        began = time.perf_counter()
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        answer.read(1)
        took = time.perf_counter() - began
        answer.read()
        if not kept:
            connection.close()
        return answer.status, took

    return once


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def median_ms(one: Callable[[], tuple[int, float]], count: int) -> float:
    """The median of so many, after one that is not counted; milliseconds."""
    one()
    taken = []
    for _ in range(count):
        status, seconds = one()
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"answered {status}")
        taken.append(seconds)
    return 1000 * statistics.median(taken)


def measure(listener: socket.socket, stream: bytes) -> list[float]:
    """Milliseconds: a small answer on fresh and on kept connections, the first bytes of a stream on fresh and kept."""
    with serving(listener) as port:
        found = []
        for method, path, body, count in (("GET", "/live", None, ASKS), ("POST", "/clone", stream, STREAMS)):
            for kept in (False, True):
                caller = ask(port, kept=kept)
                found.append(median_ms(lambda: caller(method, path, body), count))  # noqa: B023 - called at once
        return found


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="wheelwright-bench-") as folder:
        os.environ |= {
            "WW_MODEL_DIR": str(write_tiny(Path(folder) / "tiny")), "WW_HOST": "127.0.0.1", "WW_PORT": free_port(),
            "WW_DATA_DIR": str(Path(folder) / "data"), "WW_LOG_LEVEL": "error",
        }  # fmt: skip
        audio = base64.b64encode(reference_voice()).decode()
        clone = {"text": "Hello.", "ref_text": "Ah.", "ref_audio_base64": audio, "stream": True, "seed": 1}
        stream = json.dumps(clone | {"response_format": "pcm"}).encode()
        rows = {
            "the service's listener": measure(open_socket(read_settings()), stream),
            "socket.create_server": measure(socket.create_server(("127.0.0.1", 0)), stream),
        }
    print(f"{os.cpu_count()} cores; medians of {ASKS} and {STREAMS}, ms")
    print("| listener | small answer, fresh | kept | first bytes of a stream, fresh | kept |")
    print("|---|---:|---:|---:|---:|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


if __name__ == "__main__":
    main()
