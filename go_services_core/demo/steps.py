"""The steps of the demo, in their order. Each does one thing and says in one line what it did."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import define, field, frozen

from ..errors import ServicesError
from ..http import HttpRequest
from ..model import Accepted, Connection, ConnectStart, Event, Scope
from .budget import shared_budget
from .crash import crash
from .dead_letter import dead_letter
from .files import Files
from .keyed import keyed_retry
from .kill_worker import kill_worker
from .outage import outage
from .worker import worker

if TYPE_CHECKING:
    from ..handler_protocols import HandlerContext
    from ..runtime.runtime import Runtime
    from ..testing.sandbox import Sandbox

WHO = Scope("user", "demo")


class StepFailed(ServicesError):
    """A step of the demo did not bring what it should."""


@define(kw_only=True)
class Stage:
    """What the steps share."""

    files: Files
    sandbox: Sandbox
    runtime: Runtime
    webhook_url: str
    start: ConnectStart | None = None
    callback: dict[str, str] = field(factory=dict)
    connection: Connection | None = None
    accepted: list[Accepted] = field(factory=list)
    """What the inbox said to each webhook."""
    seen: list[tuple[Event, bytes]] = field(factory=list)
    """Each event that the handler got, with the body of its webhook."""

    def delivery_id(self) -> str:
        """One for each run: a repeated run in the same folder is another delivery, and another keyed call."""
        assert self.start is not None
        return f"demo-{self.start.attempt_id}"

    def connected(self) -> Connection:
        """The connection that an earlier step made."""
        require(self.connection is not None, "there is no connection")
        assert self.connection is not None
        return self.connection


@frozen(kw_only=True)
class Step:
    """One line of the demo."""

    id: str
    name: str
    run: Callable[[Stage], Awaitable[str]]
    remedy: str


STEPS: list[Step] = []


def step(id: str, name: str, *, remedy: str) -> Callable[[Callable[[Stage], Awaitable[str]]], None]:
    """Add a step to the list."""

    def add(run: Callable[[Stage], Awaitable[str]]) -> None:
        STEPS.append(Step(id=id, name=name, run=run, remedy=remedy))

    return add


def require(holds: bool, otherwise: str) -> None:
    """Fail the step unless it holds."""
    if not holds:
        raise StepFailed(f"{otherwise}.")


@step("migrate", "Migrate the database", remedy="Look at `go-services store status`; the folder must be writable.")
async def _(stage: Stage) -> str:
    status = await stage.runtime.store_status()
    require(not status.pending and not status.problems, "the database is not clean after its migrations")
    return f"{status.dialect} {status.server}, schema {status.schema_version}, {len(status.tables)} tables"


@step("connect", "Begin a connection", remedy="Look at `go-services doctor`.")
async def _(stage: Stage) -> str:
    stage.start = await stage.runtime.connect(
        "sandbox", scope=WHO, redirect_uri="http://127.0.0.1/callback", grants=("items.read", "items.write")
    )
    require("code_challenge_method=S256" in stage.start.url, "the authorization URL has no PKCE challenge")
    return f"{urlsplit(stage.start.url).path} with PKCE S256; state and browser binding stored as hashes"


@step("consent", "The person consents", remedy="The sandbox refused the authorization request.")
async def _(stage: Stage) -> str:
    assert stage.start is not None
    stage.callback = await stage.sandbox.consent(stage.start.url)
    require("code" in stage.callback, f"the sandbox answered with {stage.callback.get('error')}")
    return "approved; the sandbox sent the browser back with code, state and iss"


@step("callback", "Complete the callback", remedy="Look at the error; the attempt is used up, begin again.")
async def _(stage: Stage) -> str:
    assert stage.start is not None
    stage.connection = await stage.runtime.complete(stage.callback, binding=stage.start.binding)
    require(stage.connection.status == "active", "the connection is not active")
    return f"connection {stage.connection.id} of account {stage.connection.external_account_id}, credential sealed"


@step("call", "List items, page after page", remedy="Look at the error; the sandbox may have been switched to faults.")
async def _(stage: Stage) -> str:
    before = stage.sandbox.requests["items.list"]
    items = [
        item async for item in stage.runtime.paginate(stage.connected().id, "items.list", {"per_page": 50}, limit=120)
    ]
    pages = stage.sandbox.requests["items.list"] - before
    require(len(items) == 120 and pages == 3, f"{len(items)} items in {pages} pages came instead of 120 in 3")
    return f"{len(items)} items in {pages} pages, following Link headers"


@step("expire", "The access token expires", remedy="The sandbox still accepts the old token.")
async def _(stage: Stage) -> str:
    stage.sandbox.expire_access_tokens()
    return "the sandbox refuses the access token from now on"


@step("refresh", "Renew it by itself", remedy="Look at `go-services connections list`; connect again if it says so.")
async def _(stage: Stage) -> str:
    before = stage.sandbox.requests["token"]
    result = await stage.runtime.execute(stage.connected().id, "items.list", {"per_page": 1})
    asked = stage.sandbox.requests["token"] - before
    require(result.attempts == 2 and asked == 1, f"{result.attempts} attempts with {asked} token requests were made")
    return "401, then one token request with rotation of the refresh token, then 200"


@step("two-workers", "Two processes, one refresh token", remedy="Look at `go-services connections list`.")
async def _(stage: Stage) -> str:
    connection = stage.connected()
    async with (
        worker(stage.files.config, connection.id) as first,
        worker(stage.files.config, connection.id) as second,
    ):
        stage.sandbox.expire_access_tokens()
        before = stage.sandbox.requests["token"]
        attempts = tuple(await asyncio.gather(first.go(), second.go()))
    asked = stage.sandbox.requests["token"] - before
    require(asked == 1, f"the refresh token, which works once, was sent {asked} times")
    require(attempts == (2, 2), f"the calls took {attempts} attempts")
    return "both were refused at once; one renewed, the other took what it had saved: one token request"


@step("crash-after-rotation", "A crash with the new token", remedy="Look at `go-services connections list`.")
async def _(stage: Stage) -> str:
    return await crash(stage, require)


@step("keyed-retry", "A create without an answer", remedy="Look at the error; the sandbox may still be at it.")
async def _(stage: Stage) -> str:
    return await keyed_retry(stage, require)


@step("shared-budget", "Two processes, one rate limit", remedy="Look at the error; the limit ends within an hour.")
async def _(stage: Stage) -> str:
    return await shared_budget(stage, require)


@step("webhook", "A webhook comes twice", remedy="Look at `go-services doctor`; the webhook secret must be the same.")
async def _(stage: Stage) -> str:
    statuses = [
        await stage.sandbox.deliver(
            stage.webhook_url, event="item.created", data={"id": 121}, delivery_id=stage.delivery_id()
        )
        for _ in range(2)
    ]
    require(statuses == [204, 204], f"the answers were {statuses}")
    duplicates = [accepted.duplicate for accepted in stage.accepted]
    require(duplicates == [False, True], f"the inbox said duplicate: {duplicates}")
    return "both answered 204: signature checked, the first stored sealed, the second recognised as its duplicate"


@step("event", "Its event reaches a handler", remedy="Look at the log for what the handler raised.")
async def _(stage: Stage) -> str:
    await stage.runtime.drain()
    await stage.runtime.drain()
    seen = [(event, body) for event, body in stage.seen if event.payload["delivery_id"] == stage.delivery_id()]
    require(len(seen) == 1, f"the handler ran {len(seen)} times")
    event, body = seen[0]
    require(b"item.created" in body, "the handler did not get the delivery's body")
    return f"{event.name} handled once, with its body opened from the inbox"


@step("kill-worker", "A worker is killed with webhooks", remedy="Look at `go-services worker status`.")
async def _(stage: Stage) -> str:
    return await kill_worker(stage, require)


@step("dead-letter", "A dead letter is replayed", remedy="Look at `go-services webhooks dead`.")
async def _(stage: Stage) -> str:
    return await dead_letter(stage, require)


@step("rotate-key", "Change the key while calls go on", remedy="Look at `go-services secrets status`.")
async def _(stage: Stage) -> str:
    runtime, connection = stage.runtime, stage.connected()
    done = asyncio.Event()

    async def call_on() -> int:
        calls = 0
        while not done.is_set():
            await runtime.execute(connection.id, "items.list", {"per_page": 1})
            calls += 1
        return calls

    calling = asyncio.create_task(call_on())
    try:
        await runtime.add_key()
        before, after = await runtime.rotate_key()
        report = await runtime.rewrap(verify=True)
        require(report.complete and report.key == after, "not every row is under the new key")
        await runtime.retire_key(before.key_id, before.key_version)
    finally:
        done.set()
        calls = await calling
    async with runtime.open(stage.files.config) as again:  # nothing is remembered there
        await again.execute(connection.id, "items.list", {"per_page": 1})
    rows = sum(kind.done for kind in report.kinds)
    return f"{rows} rows now under {after.key_id}, {before.key_id} retired, {calls} calls went on meanwhile"


@step("backend-down", "The key service is down for a while", remedy="Look at the error; nothing was stored.")
async def _(stage: Stage) -> str:
    return await outage(stage, require)


@step("disconnect", "Disconnect", remedy="The sandbox could not be told; its tokens end by themselves.")
async def _(stage: Stage) -> str:
    request = await stage.runtime.sign(stage.connected().id, HttpRequest("GET", f"{stage.sandbox.url}/userinfo"))
    require(await _status(request) == 200, "the sandbox did not accept the token even before")
    ended = await stage.runtime.disconnect(stage.connected().id, reason="end of the demo")
    require(ended.revoked and ended.connection.status == "disconnected", ended.detail)
    require(await _status(request) == 401, "the sandbox still accepts the token")
    return "revoked at the provider, then ended here; the provider refuses the token"


@step("no-plaintext", "Look for secrets in the database", remedy="Do not use this build; report it (SECURITY.md).")
async def _(stage: Stage) -> str:
    needles = [*stage.sandbox.issued_secrets(), *stage.files.secrets()]
    forms = [form for needle in needles for form in _forms(needle)]
    places: set[str] = set()
    size = 0
    async with aclosing(stage.files.contents()) as contents:
        async for place, content in contents:
            places.add(place)
            size += len(content)
            require(not any(form in content for form in forms), f"{place} holds a secret in clear")
    require(size > 0, "there is nothing in the database")
    what = "tables" if stage.files.database is None else "files"
    return f"none of {len(needles)} secrets, plain or in base64, is in {len(places)} {what} ({size // 1024} KiB)"


async def _status(request: HttpRequest) -> int:
    """Send a request past the runtime, as anybody could who had kept the token."""
    import aiohttp

    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.request(request.method, request.url, headers=request.headers) as answer,
    ):
        return answer.status


def _forms(secret: str) -> list[bytes]:
    """The secret as it could stand in a file: as it is, in UTF-16, and in base64 at each of the three offsets."""
    raw = secret.encode()
    shifted = [b64encode(b"\0" * offset + raw)[4 if offset else 0 : -4] for offset in range(3)]
    return [raw, secret.encode("utf-16-le"), *shifted]


async def remember(stage: Stage, event: Event, context: HandlerContext) -> None:
    """The demo's event handler."""
    stage.seen.append((event, (await context.request()).body))
