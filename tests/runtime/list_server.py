"""A provider whose lists are continued in every style there is, and the plugin that describes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import web
from attrs import evolve, frozen

from go_services_core import (
    ApiKey,
    ApiSpec,
    Capability,
    HttpRequest,
    Operation,
    Pagination,
    Param,
    ProviderSpec,
    Ref,
    Scope,
    TransportSpec,
    hookimpl,
)
from go_services_core.exchange import Answer, Send

KEY = "a-key-of-the-lists"
TOTAL = 23
SIZE = Param("size", type="integer", default=5, maximum=10)


@frozen(kw_only=True)
class Query:
    """A call whose parameters are variables of one POST."""

    kind: ClassVar[str] = "variables"


class Variables:
    """Sends the variables and answers with the ``data`` of the answer."""

    def __init__(self, settings: Any, env: Any) -> None:
        pass

    def exchange(self, call: Any) -> Any:
        response = yield Send(request=HttpRequest.json("POST", call.url, {"variables": dict(call.body)}))
        return Answer(response.json()["data"], response)


def listed(style: str, pagination: Pagination, *params: Param, **fields: Any) -> Operation:
    return Operation(f"{style}.list", "GET", f"/{style}", params=params, pagination=pagination, **fields)


class Lists:
    """Counts what it was asked, and does wrong what ``wrong`` says."""

    GS_CONTRACT = 1

    def __init__(self) -> None:
        self.url = ""
        self.items = [{"id": number, "name": f"item {number}"} for number in range(TOTAL)]
        self.asked: list[str] = []
        self.wrong = ""
        self.delay = 0.0
        self.at_once = self.most_at_once = 0
        self.ended = 0

    # --- what the plugin says --------------------------------------------------------------------------------------

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        cursor = Pagination("cursor", items="data.items", next="data.meta.next", param="after")
        operations = (
            listed("link", Pagination("link")),
            listed("next_url", Pagination("next_url", items="items", next="paging.next")),
            listed("cursor", cursor, Param("after"), Param("q")),
            listed(
                "has_more", evolve(cursor, next="data.items.-1.id", more="data.more"), Param("after", type="integer")
            ),
            listed(
                "offset", Pagination("offset", param="from", size_param="size"), Param("from", type="integer"), SIZE
            ),
            listed("page", Pagination("page", param="page"), Param("page", type="integer"), result="items"),
            Operation(
                "graph.list",
                "POST",
                "/graph",
                params=(Param("after", "body"), Param("kind", "body")),
                pagination=Pagination("connection", items="shop.products", param="after"),
                call=Query(),
            ),
            Operation(
                "one.get", "GET", "/one/{id}", capability="one.read", params=(Param("id", "path"),), result="items.0"
            ),
            Operation("one.none", "GET", "/one/{id}", params=(Param("id", "path"),), result="missing.0"),
            Operation("broken.list", "GET", "/page", pagination=Pagination("cursor", param="page")),
        )
        return [
            ProviderSpec(
                id="lists",
                name="Lists",
                auth=ApiKey(),
                api=ApiSpec(base_url=f"{self.url}/api"),
                capabilities=Capability("one.read"),
                operations=operations,
            )
        ]

    @hookimpl
    def gs_transports(self) -> list[TransportSpec]:
        return [TransportSpec(kind="variables", factory=Ref(f"{__name__}:Variables"))]

    # --- what the server does --------------------------------------------------------------------------------------

    @web.middleware
    async def _watched(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.raw_path.removeprefix('/api')}")
        if request.headers.get("X-API-Key") != KEY:
            raise web.HTTPUnauthorized
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            answer: web.StreamResponse = await handler(request)
            self.ended += 1
            return answer
        finally:
            self.at_once -= 1

    def _part(self, start: int, size: int = 5) -> tuple[list[Any], int | None]:
        """Items from ``start``, and where the next begin."""
        if self.wrong == "empty" and start == 5:
            return [], 10
        following = start + size
        if self.wrong == "loop" and following >= 15:
            following = 5
        return self.items[start : start + size], following if following < len(self.items) else None

    async def _link(self, request: web.Request) -> web.Response:
        part, following = self._part(int(request.query.get("s", 0)))
        host = "http://localhost" if self.wrong == "host" else ""
        headers = {} if following is None else {"Link": f'<{host}/api/link?s={following}&secret=k%2Fv>; rel="next"'}
        return web.json_response(part, headers=headers)

    async def _next_url(self, request: web.Request) -> web.Response:
        part, following = self._part(int(request.query.get("s", 0)))
        host = "http://localhost/" if self.wrong == "host" else ""
        paging = {"next": f"{host}next_url?s={following}&token=hidden-in-a-url"} if following is not None else {}
        return web.json_response({"items": part, "paging": paging})

    async def _cursor(self, request: web.Request) -> web.Response:
        part, following = self._part(int(request.query.get("after", "c0").removeprefix("c")))
        meta = {"next": "" if following is None else f"c{following}"}
        if self.wrong == "kind":
            meta = {"next": ["c5"]}  # type: ignore[dict-item]
        return web.json_response({"data": {"items": part, "meta": meta}})

    async def _has_more(self, request: web.Request) -> web.Response:
        part, following = self._part(int(request.query.get("after", -1)) + 1)
        if self.wrong == "lost":
            part = [{"name": "without id"}]
        return web.json_response({"data": {"items": part, "more": following is not None}})

    async def _offset(self, request: web.Request) -> web.Response:
        return web.json_response(self._part(int(request.query.get("from", 0)), int(request.query["size"]))[0])

    async def _page(self, request: web.Request) -> web.Response:
        number = 1 if self.wrong == "ignored" else int(request.query.get("page", 1))
        items: Any = "none" if self.wrong == "kind" else self._part((number - 1) * 5)[0]
        return web.json_response({"items": items})

    async def _graph(self, request: web.Request) -> web.Response:
        variables = (await request.json())["variables"]
        part, following = self._part(int(variables.get("after") or 0))
        info = {"hasNextPage": following is not None, "endCursor": None if self.wrong == "lost" else str(following)}
        products = {"edges": [{"node": item} for item in part], "pageInfo": info}
        return web.json_response({"data": {"shop": {"products": products}}})

    async def _one(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        if number >= TOTAL:
            raise web.HTTPNotFound
        return web.json_response({"items": [self.items[number]]})

    async def _echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        return web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "headers": dict(request.headers),
                "body": body.decode("latin-1"),
            }
        )

    async def _csv(self, request: web.Request) -> web.Response:
        return web.Response(text="a,b", content_type="text/csv")

    async def _image(self, request: web.Request) -> web.Response:
        return web.Response(body=b"\x89PNG", content_type="image/png")


@asynccontextmanager
async def lists() -> AsyncIterator[Lists]:
    """The provider, on loopback."""
    made = Lists()
    application = web.Application(middlewares=[made._watched])
    for style in ("link", "next_url", "cursor", "has_more", "offset", "page", "csv", "image"):
        application.router.add_get(f"/api/{style}", getattr(made, f"_{style}"))
    application.router.add_post("/api/graph", made._graph)
    application.router.add_get("/api/one/{id}", made._one)
    application.router.add_route("*", "/api/echo{rest:.*}", made._echo)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)  # some answer late on purpose
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def connect(runtime: Any, who: str = "u1") -> Any:
    """A connection with the lists' key."""
    return await runtime.establish("lists", scope=Scope("user", who), fields={"key": KEY})
