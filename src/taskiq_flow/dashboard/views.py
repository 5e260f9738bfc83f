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
from taskiq_flow.dashboard.rendering import attributes, rendered
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import LetterView, Operations, RunQuery, RunSummary
from taskiq_flow.security import Role

NAV_SECONDS = 2.0
"""The counts beside the menu serve all who look within this time."""

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
    changes; ``wait`` are milliseconds in which further changes are taken together.
    """

    load: Load
    on: str
    mode: str = "patch"
    every: int | None = None
    wait: int = 50


async def load_side(view: View) -> dict[str, Any]:
    return {"nav": await view.desk.nav()}


SIDE = Region(load_side, "runs run", wait=2000)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its regions, each of which can be fetched alone, and what stands around them.

    ``frame`` gives what the page itself says; it is not asked for a region. ``watches`` is the
    address of its live feed, None where nothing is live.
    """

    name: str
    section: str
    frame: Load
    regions: Mapping[str, Region]
    watches: Callable[[View], str | None] = lambda view: view.url("live")

    async def answer(self, view: View) -> Response:
        """The page, or the one region that was asked for."""
        wanted = view.params.get("region")
        if wanted is not None:
            region = self._all().get(wanted)
            if region is None:
                return Response(status_code=404)
            return HTMLResponse(self._draw(view, wanted, region, await region.load(view)))
        flash = take_flash(view.request)
        names = list(self._all())
        frame, *loaded = await asyncio.gather(
            self.frame(view), *(region.load(view) for region in self._all().values())
        )
        drawn = {
            name: self._draw(view, name, self._all()[name], facts)
            for name, facts in zip(names, loaded, strict=True)
        }
        facts = dict(zip(names, loaded, strict=True))
        context = {
            "view": view,
            "section": self.section,
            "live": self.watches(view),
            "regions": drawn,
            "facts": facts,
            "nav": facts["side"]["nav"],
            "flash": flash,
            "away": False,
            "crumbs": (),
            "short_heading": "",
            **frame,
        }
        response = HTMLResponse(rendered(view.desk.environment, f"pages/{self.name}.html", context))
        if flash is not None:
            Flash.forget(response, view.base)
        return response

    def _all(self) -> Mapping[str, Region]:
        return {"side": SIDE, **self.regions}

    def _draw(self, view: View, name: str, region: Region, facts: dict[str, Any]) -> Any:
        live = attributes(
            data_live=name,
            data_src=facts.get("live_src") or view.here(region=name),
            data_on=region.on,
            data_mode=None if region.mode == "patch" else region.mode,
            data_every=None if region.every is None else str(region.every),
            data_wait=str(region.wait),
        )
        context = {"view": view, "section": self.section, "live": live, "name": name, **facts}
        return rendered(view.desk.environment, f"regions/{name}.html", context)
