"""The routes of whoever operates the service: `/metrics` and `/info`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from serve.api.readings import Scrape, versions
from serve.api.schemas import WITH_KEYS, InfoAnswer
from serve.checkpoint import model_name
from serve.inforce import in_force
from serve.service import Service

PLAIN = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format"}


def add_routes(app: FastAPI, service: Service) -> None:
    """``GET /metrics`` and ``GET /info``."""
    # Both read files, so they do it in a thread; the number of tasks is known only here.

    @app.get("/metrics", response_class=Response, responses={**WITH_KEYS, 200: PLAIN})
    async def metrics() -> Response:
        """What happened and what is, for Prometheus."""
        text = await asyncio.to_thread(generate_latest, Scrape(service, len(asyncio.all_tasks()), app.state.voices))
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/info", responses={**WITH_KEYS, 200: {"model": InfoAnswer}})
    def info() -> JSONResponse:
        """What this is: image, versions, attention and dtypes with their reasons, settings in force. Always 200."""
        return JSONResponse(describe(service))


def describe(service: Service) -> dict[str, Any]:
    """What `/info` answers; ``attention``, ``dtype``, ``device`` and ``weights`` are null until the model is loaded."""
    answer: dict[str, Any] = {
        "status": service.state.status,
        "model": model_name(service.settings, service.image),
        "engine": service.settings.engine,
        "image": None if service.image is None else service.image.model_dump(mode="json", by_alias=True),
        "versions": versions(),
        "settings": {entry.variable: entry.shown for entry in in_force(service.settings, service.image)},
        "attention": None,
        "dtype": None,
        "device": None,
        "weights": None,
    }
    return answer if service.running is None else answer | service.running.describe()
