"""The routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from serve.api import clone, openai, operations, voices
from serve.api.gate import add_keys
from serve.api.http import Guard, add_error_handlers
from serve.api.incoming import Pace
from serve.api.requests import Requests
from serve.api.schemas import WITH_KEYS, ErrorAnswer, HealthAnswer, LanguagesAnswer
from serve.service import Service
from serve.speech.languages import CODES


def create_app(service: Service) -> FastAPI:
    """The application around a service; its lifespan starts the loading."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # No /docs page: it would load scripts from someone else's host. /openapi.json is there.
    # What is refused by its head, and defects: of the routes' own lists these are no part.
    of_any_route: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in (413, 415, 500, 507)}
    # No redirect from /clone/ to /clone: behind a proxy that ends TLS it would name http://, and the body goes twice.
    app = FastAPI(
        title="Wheelwright speech service",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses=of_any_route,
        lifespan=lifespan,
    )
    add_keys(app, service.settings)  # inside the guard
    settings = service.settings
    app.add_middleware(
        Guard,
        max_body_bytes=settings.max_body_bytes,
        body_s=settings.deadline_s,
        pool=service.pool,
        pace=Pace(settings.body_grace_s, settings.min_body_kib_s * 1024),
    )
    app.add_middleware(Requests, metrics=service.metrics)  # the last added is the outermost
    add_error_handlers(app)
    _add_probes(app, service)
    clone.add_routes(app, service)
    voices.add_routes(app, service)
    openai.add_routes(app, service)
    operations.add_routes(app, service)
    return app


def _add_probes(app: FastAPI, service: Service) -> None:
    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "not so: how far it is, beside an `error`"}}

    @app.get("/live", responses=not_ready)
    async def live() -> JSONResponse:
        """200 while the process is worth keeping, from the first moment on, loading included."""
        failed = service.state.status == "failed"
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        return _until_ready(service, {"status": "failed" if failed else "live"}, status)

    @app.get("/ready", responses=not_ready)
    async def ready() -> JSONResponse:
        """200 when requests are taken; 503 before and after, with how far the start is."""
        return _until_ready(service, service.state.snapshot())

    @app.get("/health", responses={**not_ready, 200: {"model": HealthAnswer}})
    async def health() -> JSONResponse:
        """What runs and why: attention, dtypes, device, weights, image. 503 until ready."""
        return _until_ready(service, service.health())

    @app.get("/languages", responses=WITH_KEYS)
    async def languages() -> LanguagesAnswer:
        """The languages that ``language`` accepts, besides ``auto``."""
        known = sorted(service.running.facts.languages if service.running else CODES)
        listed = [{"name": name, "code": CODES.get(name)} for name in known]
        return LanguagesAnswer.model_validate({"source": "model" if service.running else "known", "languages": listed})


def _until_ready(service: Service, content: dict[str, Any], status: HTTPStatus | None = None) -> JSONResponse:
    """``content``, with 503 and the error beside it until the service is ready; ``status`` overrides."""
    refusal = service.state.refusal()
    decided = status or (HTTPStatus.OK if refusal is None else HTTPStatus.SERVICE_UNAVAILABLE)
    if refusal is not None and decided != HTTPStatus.OK:
        content |= refusal.body()
    return JSONResponse(content, decided)
