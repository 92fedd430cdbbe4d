"""``python -m serve.healthcheck``: exit 0 if ``GET /live`` answers 200, else 1. For an image's HEALTHCHECK.

Only the standard library: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys
from http import HTTPStatus

TIMEOUT_S = 5
# Where a service that listens everywhere is reached from its own host.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound


def main() -> int:
    """Ask the service on this host, on the port that it was told to listen on."""
    # The two settings that it needs, read as serve.settings reads them.
    port = os.environ.get("WW_PORT") or os.environ.get("PORT") or "8000"
    host = os.environ.get("WW_HOST") or os.environ.get("HOST") or ""
    try:
        # http.client, not urllib: no proxy may come between.
        connection = http.client.HTTPConnection(LOOPBACK.get(host, host), int(port), timeout=TIMEOUT_S)
        connection.request("GET", "/live")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"not live: {error}", file=sys.stderr)
        return 1
    if status != HTTPStatus.OK:
        print(f"not live: /live answers {status}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
