"""What a web face serves while it is examined, and a client that sends bytes over a socket."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen

from ..config import Config
from ..errors import StoreUnavailable
from ..hookspecs import hookimpl
from ..model import Scope
from ..plugins import PluginManager
from ..protocols import Challenge, Rejected, Verdict, Verified
from ..refs import Ref
from ..secret import SecretStr
from ..specs import ProviderSpec, WebhookSchemeSpec
from .memory import MemoryStore

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..http import InboundRequest
    from ..runtime.runtime import Runtime
    from .sandbox import Sandbox

BODY_LIMIT: Final = 65_536
BODY_SECONDS: Final = 1.0
RETURN_TO: Final = "/settings?from=kit"
WAIT: Final = 20.0
"""Seconds until an answer must have come."""


@frozen
class KitWebhook:
    """The record of a scheme with a handshake."""

    scheme: ClassVar[str] = "face-kit"


class KitVerifier:
    """Takes deliveries with the header ``X-Kit``, breaks where that is ``crash``, and answers a GET with its token."""

    def __init__(self, record: KitWebhook) -> None:
        """Nothing of the record is needed."""

    def verify(self, request: InboundRequest, *, secrets: Any, now: Any) -> Generator[Any, Any, Verdict]:
        """As the protocol says, but for the crash."""
        yield from ()
        if request.method == "GET":
            return Challenge(body=request.target.partition("challenge=")[2].encode())
        said = request.header("x-kit")
        if said == "crash":
            raise RuntimeError("this scheme is broken")
        return Verified(delivery_id=said, event="kit") if said else Rejected(reason="the header X-Kit is missing")


@frozen
class _Providers:
    """The plugin with what a face is examined with."""

    sandbox: Sandbox
    GS_CONTRACT: ClassVar[int] = 1

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        spec = self.sandbox.spec()
        return [
            spec,
            evolve(spec, id="kit", webhook=KitWebhook()),
            evolve(spec, id="silent", webhook=None),
        ]

    @hookimpl
    def gs_webhook_schemes(self) -> list[WebhookSchemeSpec]:
        return [WebhookSchemeSpec(id="face-kit", verifier=Ref("go_services_core.testing.face:KitVerifier"))]


@define
class FaceApp:
    """An application for a face: open its runtime with ``opening``, serve it on ``listening`` with ``options``."""

    sandbox: Sandbox
    listening: socket.socket
    mount: str
    store: MemoryStore = field(factory=MemoryStore)
    plugins: dict[str, object] = field(factory=dict)
    """Further plugins by id."""

    @property
    def opening(self) -> dict[str, Any]:
        """Arguments for ``Runtime.open`` or ``BlockingRuntime.open``."""
        known = ("transport_http", "secrets_appkey", "store_sqlite")
        plugins = {name: import_module(f"go_services_{name}.plugin") for name in known}
        appkey: Any = Ref("go_services_secrets_appkey.key:generate_key").resolve()
        tables = self.sandbox.config()
        arguments = {
            "runtime": {**tables["runtime"], "callback_url": f"{self.url}/callback", "return_to": ["/settings"]},
            "providers.sandbox": tables["providers"]["sandbox"],
            "providers.kit": tables["providers"]["sandbox"],
            "providers.silent": tables["providers"]["sandbox"],
            "egress.allow": {"sandbox": [urlsplit(self.sandbox.url).netloc]},
            "secrets.appkey.key": appkey(),
        }
        return {
            "source": Config.load(None, environ={}, arguments=arguments),
            "plugins": PluginManager.of({**plugins, "made": _Providers(self.sandbox), **self.plugins}),
            "store": self.store,
        }

    @property
    def options(self) -> dict[str, Any]:
        """Options of the site, but for ``scope_of``, which is :meth:`scope` of the header ``X-User``."""
        return {"public_url": self.url, "body_limit": BODY_LIMIT, "body_seconds": BODY_SECONDS}

    @property
    def url(self) -> str:
        """Where the face is mounted."""
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}{self.mount}"

    @staticmethod
    def scope(user: str | None) -> Scope | None:
        """Whose connection a consent of that person will be."""
        return Scope("user", user) if user else None

    def break_store(self) -> None:
        """From now on no delivery can be kept."""

        async def refuse(*_: Any) -> Any:
            raise StoreUnavailable("the database at db.internal:5432 does not answer")

        setattr(self.store.queues, "accept", refuse)  # noqa: B010  a method of this one object

    def mend_store(self) -> None:
        """The store works again."""
        del self.store.queues.accept


@asynccontextmanager
async def face_app(mount: str = "") -> AsyncGenerator[FaceApp]:
    """An application whose face will be below ``mount``: a provider on this machine and a socket to listen on."""
    make: Any = Ref("go_services_core.testing.sandbox:Sandbox").resolve()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with make(redirect_uris=(f"http://127.0.0.1{mount}/callback",)) as sandbox:
            yield FaceApp(sandbox, listening, mount)


@frozen
class Answer:
    """An answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@frozen
class FaceSubject:
    """A face that serves ``app`` on its socket."""

    app: FaceApp
    runtime: Runtime | BlockingRuntime
    reads_itself: bool = True
    """Whether the face reads bodies from the connection; else the server has them, and decides how long it waits."""
    sends_chunked: bool = True
    """Whether its server takes a body whose length is not told before."""

    async def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of the runtime, whichever face of it that is."""
        if inspect.iscoroutinefunction(method):
            return await method(*args, **options)
        return await asyncio.to_thread(method, *args, **options)

    async def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request and read its answer."""
        own = {"Content-Length": str(len(body))} if body or method == "POST" else {}
        return await self.raw(method, path, {**own, **(headers or {})}, body)

    async def raw(self, method: str, path: str, headers: dict[str, str], *pieces: bytes) -> Answer:
        """Send a head and ``pieces`` as they are, whether or not they are a whole body, and read the answer."""
        host, port = self.app.listening.getsockname()[:2]
        given = {"Host": f"{host}:{port}", "Connection": "close", **headers}
        lines = [f"{method} {self.app.mount}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        async with asyncio.timeout(WAIT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                for piece in (head, *pieces):
                    writer.write(piece)
                answer = await _read(reader)
            finally:
                writer.close()
        return answer

    def signed(self, body: bytes, delivery_id: str = "msg_1") -> dict[str, str]:
        """Headers of a delivery of the sandbox."""
        from .sandbox.webhooks import sign

        stamp = int(time.time())
        secret: SecretStr = self.app.sandbox.webhook_secret
        return {
            "Content-Type": "application/json",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(secret, delivery_id, stamp, body),
        }


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line))
    answer = Answer(int(head[0].split(" ")[1]), headers, b"")
    length = answer.header("content-length")
    if answer.status in (204, 304):
        return answer
    return evolve(answer, body=await (reader.read() if length is None else reader.readexactly(int(length))))
