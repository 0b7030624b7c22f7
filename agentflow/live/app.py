"""Builds the application of a live process: its routes, and what happens at its start and end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from agentflow import __version__
from agentflow.live import sse, websocket
from agentflow.live.process import Live

_STATIC: Final = Path(__file__).parent / "static"
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(live: Live) -> Starlette:
    """A new application around the parts of this process."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        live.start()
        yield
        await live.stop()

    app = Starlette(
        routes=[
            WebSocketRoute("/ws", websocket.serve),
            Route("/events", sse.stream),
            Route("/api/v1/runs/{run_id}/events", sse.stream_run),
            Route("/healthz", _health),
            Route("/watch/{run_id}", _page),
            Route("/watch.js", _script),
            Route("/watch.css", _style),
        ],
        lifespan=lifespan,
    )
    app.state.live = live
    return app


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})


async def _page(_: Request) -> Response:
    """A page that shows a run as it goes on. It holds nothing itself: its script gets all from `/ws`."""
    return FileResponse(_STATIC / "watch.html", headers=_PAGE_HEADERS)


async def _script(_: Request) -> Response:
    return FileResponse(_STATIC / "watch.js", headers=_PAGE_HEADERS)


async def _style(_: Request) -> Response:
    return FileResponse(_STATIC / "watch.css", headers=_PAGE_HEADERS)
