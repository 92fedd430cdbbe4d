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
from serve.memory import read_memory
from serve.service import Service
from serve.shortage import open_descriptors

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
        "memory": memory_of(service),
        "connections": {"open": len(service.connections), "most": service.connections.most},
        "descriptors": {"open": open_descriptors(), "limit": service.descriptors},
        "attention": None,
        "dtype": None,
        "device": None,
        "weights": None,
    }
    return answer if service.running is None else answer | service.running.describe()


def memory_of(service: Service) -> dict[str, Any]:
    """How the memory is shared out; ``budget`` is null until the model is loaded."""
    now, budget = read_memory(), service.budget
    return {
        "now": {"limit_bytes": now.limit, "taken_bytes": now.taken, "source": now.source},
        "requests": {"limit_bytes": service.pool.total, "held_bytes": service.pool.used},
        "bodies_coming": {"limit_bytes": service.pool.bodies, "held_bytes": service.pool.coming},
        "budget": None
        if budget is None
        else {
            "limit_bytes": budget.memory.limit,
            "taken_after_load_bytes": budget.memory.taken,
            "spare_bytes": budget.spare,
            "engine_bytes": budget.work,
            "prompt_cache_bytes": budget.cache,
            "connections_bytes": budget.connections,
            "formula": budget.explain(),
        },
    }
