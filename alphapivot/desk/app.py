"""The desk's server: one page, what changes in it as a stream, charts, and the actions."""

from __future__ import annotations

import getpass
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import plotly.offline
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from alphapivot.desk import charts
from alphapivot.desk.access import USED, Guard
from alphapivot.desk.actions import Order, act
from alphapivot.desk.board import Board
from alphapivot.errors import AlphaPivotError, DataError
from alphapivot.reports import explanation, overview
from alphapivot.reports.page import cells
from alphapivot.reports.page.charts import waterfall
from alphapivot.reports.terminal import views

if TYPE_CHECKING:
    from collections.abc import Callable

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

HERE = Path(__file__).parent
POLL_SECONDS = 2.0
QUIET = 10  # polls without a change after which an empty line shows that we live
LONGEST = 10_000  # characters of a request
FIELDS = frozenset({"action", "reason"})

log = logging.getLogger("alphapivot.desk")


class Desk:
    """The handlers. ``connect``: the hub, looked up at each use, for the embedded server may move to another port."""

    def __init__(self, connect: Callable[[], Hub], settings: Settings, poll: float = POLL_SECONDS) -> None:
        self._connect, self._settings, self._poll = connect, settings, poll
        self._lock = anyio.Lock()
        self._newest: tuple[float, dict[str, str]] = (float("-inf"), {})

    async def live(self, _: Request) -> Response:
        """A stream of server-sent events: the sections that have changed since the last one, all at first."""
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        shown: dict[str, str] = {}
        quiet = 0
        while True:
            sections = await self._sections()
            changed = {name: html for name, html in sections.items() if shown.get(name) != html}
            quiet = 0 if changed else quiet + 1
            if changed:
                yield f"data: {json.dumps(changed)}\n\n"
                shown |= changed
            elif quiet % QUIET == 0:
                yield ":\n\n"
            await anyio.sleep(self._poll)

    async def _sections(self) -> dict[str, str]:
        """The sections, computed once for all windows that look."""
        async with self._lock:
            at, sections = self._newest
            if time.monotonic() - at >= self._poll / 2:
                sections = await run_in_threadpool(self._computed)
                self._newest = time.monotonic(), sections
        return sections

    def _computed(self) -> dict[str, str]:
        try:
            return Board(self._connect(), self._settings).sections() | {"trouble": ""}
        except AlphaPivotError as error:
            return {"trouble": f'<div class="card warn">{views.escaped(error)}</div>'}

    def equity(self, _: Request) -> Response:
        return JSONResponse(charts.equity(self._connect(), self._settings))

    def chart(self, request: Request) -> Response:
        return JSONResponse(charts.trade(self._connect(), self._settings, request.path_params["trade"]))

    def explain(self, request: Request) -> Response:
        """The waterfall of a symbol's newest score, as a figure and as a table."""
        hub, symbol = self._connect(), request.path_params["symbol"]
        run = overview.latest(hub, self._settings.runtime.scores)
        if run is None or symbol not in self._settings.instruments:
            raise DataError(f"there is no score of {symbol!r} to explain")
        explained = explanation.explain(hub, self._settings, run, symbol, None)
        figure: dict[str, Any] = json.loads(waterfall(explained).to_json())
        figure["layout"].pop("template", None)
        figure["layout"].pop("title", None)
        figure["layout"]["margin"] = {"l": 10, "r": 20, "t": 10, "b": 40}
        tables = views.explanation(explained)
        html = "".join(
            cells.html(table, "how" if "how" in table else None, toned=("points", "effect"))
            for table in tables.values()
        )
        score = "unknown" if explained.score is None else views.points(explained.score)
        title = f"{symbol}: score {score} at {views.instant(explained.ts)} UTC {explained.note}".rstrip()
        return JSONResponse({"title": title, "figure": figure, "html": html})

    async def act(self, request: Request) -> Response:
        """Carries out an order; answers with a sentence, whatever became of it."""
        try:
            words = json.loads((await request.body())[:LONGEST])
        except ValueError:
            words = None
        if not isinstance(words, dict) or not all(isinstance(value, str) for value in words.values()):
            return PlainTextResponse("the request cannot be read: expected a JSON object of texts\n", 400)
        rest = {name: value for name, value in words.items() if name not in FIELDS}
        order = Order(words.get("action", ""), rest, words.get("reason", ""), f"{getpass.getuser()} (desk)")
        done = await run_in_threadpool(lambda: act(self._connect(), self._settings, order))
        self._newest = float("-inf"), {}
        return PlainTextResponse(done)


def app(connect: Callable[[], Hub], settings: Settings, *, key: str, port: int, poll: float = POLL_SECONDS) -> ASGIApp:
    """The ASGI app behind its access checks. ``key``: see ``Guard``; ``poll``: seconds between two looks."""
    desk = Desk(connect, settings, poll)
    script = plotly.offline.get_plotlyjs()

    async def login(request: Request) -> Response:
        session = guard.session((await request.body())[:200].decode(errors="replace"))
        return PlainTextResponse(USED, 403) if session is None else PlainTextResponse(session)

    def plotly_js(_: Request) -> Response:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "private, max-age=86400"})

    def file(name: str) -> Route:
        return Route("/" if name == "page.html" else f"/{name}", lambda _: FileResponse(HERE / name))

    async def refused(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 409)

    async def broken(_: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return PlainTextResponse(f"the desk failed: {type(error).__name__}; its log says where", 500)

    routes = [
        *(file(name) for name in ("page.html", "desk.js", "desk.css")),
        Route("/plotly.js", plotly_js),
        Route("/login", login, methods=["POST"]),
        Route("/live", desk.live),
        Route("/equity", desk.equity),
        Route("/chart/{trade:int}", desk.chart),
        Route("/explain/{symbol}", desk.explain),
        Route("/act", desk.act, methods=["POST"]),
    ]
    guard = Guard(Starlette(routes=routes, exception_handlers={AlphaPivotError: refused, Exception: broken}), key, port)
    return guard
