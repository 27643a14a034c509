"""A key service on loopback that can be switched off, and the secret backend that asks it over HTTP."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from ..config import setting, settings
from ..errors import BackendUnavailable, CannotOpen, KeyNotFound, SecretError
from ..hookspecs import hookimpl
from ..model import KeyRef
from ..protocols import PluginEnv
from ..refs import Ref
from ..sealing import DataKey, SecretBackend, WrappedKey
from ..secret import SecretBytes
from ..specs import SecretBackendSpec

if TYPE_CHECKING:
    from aiohttp import web

_ERRORS: Mapping[str, type[SecretError]] = {error.__name__: error for error in (CannotOpen, KeyNotFound)}


class KeyService:
    """Keeps a wrapping key behind ``POST /wrap`` and ``POST /unwrap``; ``up`` says whether it listens."""

    def __init__(self, keys: SecretBackend) -> None:
        self._keys = keys
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.calls = 0

    @property
    def url(self) -> str:
        """Where it listens, or listened."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen on loopback: on a free port the first time, later on the same."""
        from aiohttp import web

        application = web.Application()
        application.router.add_post("/{action}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections from now on; idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        self.calls += 1
        asked = await request.json()
        data, context = b64decode(asked["data"]), b64decode(asked["context"])
        try:
            if request.match_info["action"] == "wrap":
                made = await self._keys.wrap(SecretBytes(data), context)
                given = {"data": b64encode(made.wrapped).decode(), "key_id": made.key.key_id}
            else:
                opened = await self._keys.unwrap(data, KeyRef(self._keys.id, asked["key_id"], 1), context)
                given = {"data": b64encode(opened.reveal()).decode()}
        except (CannotOpen, KeyNotFound) as refused:
            return web.json_response({"error": type(refused).__name__}, status=400)
        return web.json_response(given)


@settings
class KeyServiceSettings:
    """``[secrets.key-service]``"""

    url: str = setting(help="Where the service listens")


class KeyServiceBackend:
    """The secret backend ``key-service``: its keys are wrapped and unwrapped by a :class:`KeyService`."""

    id = "key-service"

    def __init__(self, url: str, env: PluginEnv) -> None:
        self._url = url
        self._random = env.clock.random

    async def generate(self, context: bytes) -> DataKey:
        return await self.wrap(SecretBytes(self._random(32)), context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        answer = await self._ask("wrap", plaintext.reveal(), context)
        return DataKey(plaintext=plaintext, wrapped=b64decode(answer["data"]), key=KeyRef(self.id, answer["key_id"], 1))

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        if key.backend != self.id:
            raise KeyNotFound(f"The key {key.key_id} of {key.backend} is not a key of the key service.")
        return SecretBytes(b64decode((await self._ask("unwrap", wrapped, context, key_id=key.key_id))["data"]))

    async def rewrap(self, keys: Sequence[WrappedKey]) -> list[WrappedKey | SecretError]:
        return [await self._rewrap(old) for old in keys]

    async def check(self) -> KeyRef:
        return (await self.generate(b"check")).key

    async def aclose(self) -> None:
        """Nothing is kept open."""

    async def _rewrap(self, old: WrappedKey) -> WrappedKey | SecretError:
        try:
            made = await self.wrap(await self.unwrap(old.wrapped, old.key, old.context), old.context)
        except (CannotOpen, KeyNotFound) as refused:
            return refused
        return WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context)

    async def _ask(self, action: str, data: bytes, context: bytes, **more: str) -> dict[str, str]:
        import aiohttp

        asked = {"data": b64encode(data).decode(), "context": b64encode(context).decode(), **more}
        try:
            async with (
                aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(5)) as session,
                session.post(f"{self._url}/{action}", json=asked) as response,
            ):
                answer: dict[str, str] = await response.json()
        except (aiohttp.ClientError, TimeoutError):
            raise BackendUnavailable("The key service does not answer.") from None
        if "error" in answer:
            raise _ERRORS[answer["error"]]
        return answer


def open_backend(settings: KeyServiceSettings, env: PluginEnv) -> KeyServiceBackend:
    """The backend over the service at ``settings.url``."""
    return KeyServiceBackend(settings.url, env)


class KeyServicePlugin:
    """Offers the backend."""

    GS_CONTRACT = 1

    @hookimpl
    def gs_secret_backends(self) -> Iterable[SecretBackendSpec]:
        here = "go_services_core.demo.key_service"
        return (
            SecretBackendSpec(
                id=KeyServiceBackend.id,
                factory=Ref(f"{here}:open_backend"),
                sealer=Ref("go_services_envelope:Sealer"),
                settings=KeyServiceSettings,
            ),
        )
