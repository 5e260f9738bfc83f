"""What a request looks at: the page, who asks, and addresses that hold wherever it is mounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from taskiq_flow.dashboard.access import Access
from taskiq_flow.dashboard.addresses import path
from taskiq_flow.dashboard.flash import Flash, take_flash
from taskiq_flow.dashboard.live import POSITION_MOST
from taskiq_flow.dashboard.rendering import attributes, rendered
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import LetterView, Operations, RunQuery, RunSummary
from taskiq_flow.security import Role

NAV_SECONDS = 2.0
"""The counts beside the menu serve all who look within this time."""

PATIENCE_SECONDS = 0.3
"""So long a page waits for its parts. For one that takes longer it holds a place of about its
height, and fetches it when it is shown."""

_T = TypeVar("_T")
_NAV = {"overview": "", "dead": "dead-letters", "more": "more"}


@dataclass(frozen=True, slots=True)
class Nav:
    """The counts beside the menu."""

    running: int
    failed: int
    workers: int


@dataclass(slots=True)
class Desk:
    """What all requests share."""

    operations: Operations
    access: Access
    environment: Environment
    title: str
    base_path: str
    static_version: str
    _nav: tuple[float, Nav] | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def nav(self) -> Nav:
        async with self._asking:
            known = self._nav
            if known is None or time.monotonic() - known[0] > NAV_SECONDS:
                running, failed, workers = await asyncio.gather(
                    self.operations.count(RunQuery(status=RunStatus.RUNNING)),
                    self.operations.count(RunQuery(status=RunStatus.FAILED)),
                    self.operations.workers(),
                )
                known = self._nav = (time.monotonic(), Nav(running, failed, len(workers)))
        return known[1]


@dataclass(slots=True)
class View:
    """One request as pages see it."""

    desk: Desk
    request: Request
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    namesake: str = ""
    """The whole id of the run that the page is about, however it was asked for."""
    _asked: dict[str, asyncio.Future[Any]] = field(default_factory=dict[str, "asyncio.Future[Any]"])

    async def once(self, name: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What regions of one page share is asked for once."""
        if name not in self._asked:
            self._asked[name] = asyncio.ensure_future(ask())
        return await self._asked[name]

    @property
    def operations(self) -> Operations:
        return self.desk.operations

    @property
    def title(self) -> str:
        return self.desk.title

    @property
    def namespace(self) -> str:
        return self.operations.namespace

    @property
    def store_kind(self) -> str:
        """The kind of the store; its address may hold a password and is not shown."""
        return self.operations.store.url.partition(":")[0].partition("+")[0]

    @property
    def params(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def base(self) -> str:
        return self.desk.base_path + str(self.request.scope.get("root_path", "")).rstrip("/")

    def url(self, *parts: str, **query: str | int | float | None) -> str:
        """An address of the dashboard, wherever it is mounted."""
        return self.base + path(*parts, **query)

    def here(self, **changes: str | int | float | None) -> str:
        """The address of this view with some of its query changed; None takes a part out."""
        kept: dict[str, str | int | float | None] = {
            name: value for name, value in self.params.items() if name != "region"
        }
        return self.base + self._path() + path(**(kept | changes))[1:]

    def _path(self) -> str:
        """The path of this view below the place where it is mounted."""
        root = str(self.request.scope.get("root_path", ""))
        return str(self.request.scope["path"]).removeprefix(root) or "/"

    def static(self, name: str) -> str:
        return f"{self.base}/static/{name}?v={self.desk.static_version}"

    def nav_url(self, name: str) -> str:
        return self.url(*([_NAV.get(name, name)] if _NAV.get(name, name) else []))

    @property
    def identity(self) -> Any:
        return self.desk.access.identity(self.request)

    @property
    def csrf(self) -> str:
        return self.desk.access.csrf_token(self.request)

    @property
    def can_sign_out(self) -> bool:
        return self.desk.access.can_sign_out(self.request)

    @property
    def may_act(self) -> bool:
        return self.desk.access.may(self.request, Role.OPERATOR)

    @property
    def may_delete(self) -> bool:
        return self.desk.access.may(self.request, Role.ADMIN)

    def may_see(self, run: RunSummary | LetterView) -> bool:
        """Whether who asks may see this run: some may see few pipelines only."""
        return self.desk.access.may_see(self.request, run.name, run.pipeline_id)

    @property
    def actor(self) -> str:
        return self.desk.access.actor(self.request)


Load = Callable[[View], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a page that is kept fresh: it is fetched again when one of ``on`` changed.

    ``mode`` is how: ``patch``, ``append`` (lines), ``rows`` (new ones wait) or ``calm`` (nothing
    moves under the pointer). ``every`` asks again after so many seconds, for what only time
    changes; ``wait`` are milliseconds in which further changes are taken together. ``lines`` are
    the lines that hold its place while it is not there yet. A fact named ``spoken`` is said to
    those who listen instead of looking, when it changes.
    """

    load: Load
    on: str
    mode: str = "patch"
    every: int | None = None
    wait: int = 50
    lines: int = 4


async def load_side(view: View) -> dict[str, Any]:
    return {"nav": await view.desk.nav()}


SIDE = Region(load_side, "runs run", wait=2000, lines=8)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its regions, each of which can be fetched alone, and what stands around them.

    ``frame`` gives what the page itself says; it is not asked for a region. ``watches`` is the
    address of its live feed from a position on.
    """

    name: str
    section: str
    frame: Load
    regions: Mapping[str, Region]
    watches: Callable[[View, str | None], str] = lambda view, since: view.url("live", after=since)

    async def answer(self, view: View) -> Response:
        """The page, or the one region that was asked for."""
        wanted = view.params.get("region")
        if wanted is not None:
            region = self._all().get(wanted)
            if region is None:
                return Response(status_code=404)
            return HTMLResponse(self._draw(view, wanted, region, await region.load(view)))
        flash = take_flash(view.request)
        # Before anything is read: what happens from here on is told when the page listens.
        since = (await view.operations.feed(limit=1)).position
        frame, loaded = await self._loaded(view)
        drawn = {
            name: self._draw(view, name, region, loaded.get(name))
            for name, region in self._all().items()
        }
        context = {
            "view": view,
            "section": self.section,
            "live": self.watches(view, since if len(since) <= POSITION_MOST else None),
            "regions": drawn,
            "nav": loaded.get("side", {}).get("nav"),
            "flash": flash,
            "away": False,
            "crumbs": (),
            "short_heading": "",
            "is_soft": False,
            **frame,
        }
        response = HTMLResponse(rendered(view.desk.environment, f"pages/{self.name}.html", context))
        if flash is not None:
            Flash.forget(response, view.base)
        return response

    def _all(self) -> Mapping[str, Region]:
        return {"side": SIDE, **self.regions}

    async def _loaded(self, view: View) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """What stands around the regions, and of these the ones that came in time."""
        parts = {
            name: asyncio.ensure_future(region.load(view)) for name, region in self._all().items()
        }
        # Whatever comes of those that are late, somebody has to take it.
        together = asyncio.gather(*parts.values(), return_exceptions=True)
        frame = await self.frame(view)
        await asyncio.wait([together], timeout=PATIENCE_SECONDS)
        return frame, {name: part.result() for name, part in parts.items() if part.done()}

    def _draw(self, view: View, name: str, region: Region, facts: dict[str, Any] | None) -> Any:
        """A region as markup; without its facts a place is held for it."""
        known = facts or {}
        live = attributes(
            data_live=name,
            data_src=known.get("live_src") or view.here(region=name),
            data_on=region.on,
            data_mode=None if region.mode == "patch" else region.mode,
            data_every=None if region.every is None else str(region.every),
            data_wait=str(region.wait),
            data_spoken=known.get("spoken"),
        )
        context = {"view": view, "section": self.section, "live": live, "name": name, **known}
        if facts is None:
            context["lines"] = region.lines
        template = "loading" if facts is None else name
        return rendered(view.desk.environment, f"regions/{template}.html", context)
