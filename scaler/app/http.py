"""The HTTP side: the page, the API, metrics and probes. It reads what the turns left behind; it orders nothing."""

import socket
import threading
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from scaler.app.service import Service
from scaler.domain.endpoint import EndpointId
from scaler.errors import HeadstartError, SettingsError, StoreUnavailable

MOST_DECISIONS = 1000
CACHED = {"Cache-Control": "public, max-age=86400"}


class Unknown(HeadstartError):
    """No such endpoint in the policies."""


class Problem(BaseModel):
    """What every error of the API looks like."""

    error: str


PROBE: dict[int | str, dict[str, Any]] = {503: {"content": {"text/plain": {}}, "description": "Why not"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (404, 422, 503)}


def build_app(service: Service, extra_status: Callable[[], Mapping[str, Any]] = dict) -> FastAPI:
    """The application. Errors are JSON: {"error": "..."}; /openapi.json describes all but the page."""
    app = FastAPI(title="Headstart", docs_url=None, redoc_url=None)
    _answer_errors(app)
    _add_page(app)
    _add_probes(app, service)
    _add_api(app, service, extra_status)
    app.add_middleware(HeadAsGet)
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Unknown)
    def unknown(_: Request, error: Unknown) -> JSONResponse:
        return _problem(str(error), 404)

    @app.exception_handler(StoreUnavailable)
    def store_unavailable(_: Request, error: StoreUnavailable) -> JSONResponse:
        return _problem(str(error), 503)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _problem(f"{request.method} {request.url.path}: {error.detail}", error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def unusable(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _problem(f"{first['loc'][-1]}: found {first['input']!r}; {first['msg']}", 422)


def _add_page(app: FastAPI) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_packaged("scaler.app", "page/index.html"))

    @app.get("/static/plotly.min.js", include_in_schema=False)
    def plotly_script() -> Response:
        return Response(_packaged("plotly", "package_data/plotly.min.js"), media_type="text/javascript", headers=CACHED)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        kinds = {"page.css": "text/css", "page.js": "text/javascript"}
        if name not in kinds:
            raise Unknown(f"no such file: {name}")
        return Response(_packaged("scaler.app", f"page/{name}"), media_type=kinds[name])


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, responses=PROBE)
    def healthz() -> PlainTextResponse:
        return _probe(service.why_dead())

    @app.get("/readyz", response_class=PlainTextResponse, responses=PROBE)
    def readyz() -> PlainTextResponse:
        return _probe(service.why_not_ready())

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        body, content_type = service.telemetry.exposition()
        return Response(body, media_type=content_type)


def _add_api(app: FastAPI, service: Service, extra_status: Callable[[], Mapping[str, Any]]) -> None:
    @app.get("/api/v1/status")
    def status() -> dict[str, Any]:
        last = service.board.last_turn
        return {
            "now": service.clock.now().isoformat(),
            "time_scale": service.settings.time_scale,
            "turn_seconds": service.settings.turn.total_seconds(),
            "last_turn": None if last is None else last.isoformat(),
            "turns": service.board.n_turns,
            "problems": dict(service.board.problems),
            **extra_status(),
        }

    @app.get("/api/v1/endpoints")
    def endpoints() -> list[dict[str, Any]]:
        return service.board.endpoints()

    @app.get("/api/v1/endpoints/{namespace}/{name}/decisions", responses=PROBLEMS)
    def decisions(
        namespace: str, name: str, limit: Annotated[int, Query(ge=1, le=MOST_DECISIONS)] = 50
    ) -> list[Mapping[str, Any]]:
        rows = service.store.last_rows(_known(service, namespace, name), limit)
        return list(rows)

    @app.get("/api/v1/endpoints/{namespace}/{name}/timeline", responses={404: PROBLEMS[404]})
    def timeline(namespace: str, name: str) -> dict[str, Any]:
        found = service.board.timeline(_known(service, namespace, name))
        return found or {}


class HeadAsGet:
    """Uptime checks ask with HEAD, which FastAPI refuses. The server leaves out the body: it knows what was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked_as_get = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        await self._app(asked_as_get, receive, send)


class HttpServer:
    """Serves in a thread of its own, so that signals stay with the main thread."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        self._listener = listener
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Requests under way are answered, then the port is free."""
        self._server.should_exit = True
        self._thread.join(timeout=5.0)
        self._listener.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingsError when the address cannot be used; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"--http: cannot listen on {host}:{port} ({error.strerror}); choose a free HOST:PORT"
        ) from error
    return listener


def _problem(said: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Problem(error=said).model_dump(), status_code=status, headers=headers)


def _probe(why_not: str) -> PlainTextResponse:
    return PlainTextResponse(why_not or "ok", status_code=503 if why_not else 200)


def _known(service: Service, namespace: str, name: str) -> EndpointId:
    endpoint = EndpointId(namespace, name)
    if service.board.timeline(endpoint) is None:
        raise Unknown(f"no endpoint {endpoint}; /api/v1/endpoints lists those that have a policy")
    return endpoint


def _packaged(package: str, path: str) -> bytes:
    return files(package).joinpath(path).read_bytes()
