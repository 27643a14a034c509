"""How often KMS and Vault are asked: real servers on loopback, every request of the backend counted.

1,000 connections of as many users are called 10,000 times, with no connection cached, so that each call opens its
credential. Per data-key life and scope, at most one call of the backend may be made: by the process that connected
them, and by another one that opens them. KMS is moto's server, Vault is OpenBao.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from go_services_core import Runtime, Scope, SecretStr, hookimpl
from go_services_core.config import Config
from go_services_core.errors import SecretError
from go_services_core.model import KeyRef
from go_services_core.plugins import PluginManager
from go_services_core.protocols import PluginEnv
from go_services_core.refs import Ref
from go_services_core.sealing import DataKey, SecretBackend, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.specs import SecretBackendSpec

from . import server
from .execute import BenchPlugin
from .harness import Result, plain

SCOPES: Final = 1000
EXECUTES: Final = 10_000
CONCURRENCY: Final = 16
ROWS_A_CALL: Final = 100
CALLS: Final[Counter[str]] = Counter()


class Counted:
    """A secret backend that counts what is asked of it."""

    def __init__(self, inner: SecretBackend) -> None:
        self._inner = inner
        self.id = inner.id

    async def generate(self, context: bytes) -> DataKey:
        CALLS["generate"] += 1
        return await self._inner.generate(context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        CALLS["wrap"] += 1
        return await self._inner.wrap(plaintext, context)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        CALLS["unwrap"] += 1
        return await self._inner.unwrap(wrapped, key, context)

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        CALLS["rewrap"] += 1
        return await self._inner.rewrap(keys)

    async def check(self) -> KeyRef:
        return await self._inner.check()

    async def aclose(self) -> None:
        await self._inner.aclose()


def counted_kms(settings: Any, env: PluginEnv) -> Counted:
    """The backend ``kms``, counted."""
    from go_services_secrets_kms.backend import open_backend

    return Counted(open_backend(settings, env))


def counted_vault(settings: Any, env: PluginEnv) -> Counted:
    """The backend ``vault``, counted."""
    from go_services_secrets_vault.backend import open_backend

    return Counted(open_backend(settings, env))


class CountedPlugin:
    """Offers the counted backends under the ids of the real ones."""

    GS_CONTRACT = 1

    @hookimpl
    def gs_secret_backends(self) -> Iterable[SecretBackendSpec]:
        sealer = Ref[Any]("go_services_envelope:Sealer")
        return (
            SecretBackendSpec(
                id="kms",
                factory=Ref(f"{__name__}:counted_kms"),
                sealer=sealer,
                settings=Ref("go_services_secrets_kms.settings:KmsSettings"),
            ),
            SecretBackendSpec(
                id="vault",
                factory=Ref(f"{__name__}:counted_vault"),
                sealer=sealer,
                settings=Ref("go_services_secrets_vault.settings:VaultSettings"),
            ),
        )


def opening(folder: Path, url: str, arguments: Mapping[str, Any]) -> AbstractAsyncContextManager[Runtime]:
    """A runtime on the database of ``folder``, as a new process would have it: nothing is remembered."""
    import go_services_store_sqlite.plugin as sqlite
    import go_services_transport_http.plugin as http

    plugins = {"bench": BenchPlugin(url), "counted": CountedPlugin(), "sqlite": sqlite, "http": http}
    given = {
        "store.url": f"sqlite:///{folder / 'bench.db'}",
        "runtime.cache_seconds": 0.0,
        "egress.allow.bench": [url.removeprefix("http://")],
        **arguments,
    }
    config = Config.load(None, environ={}, arguments=given)
    return Runtime.open(config, plugins=PluginManager.of(plugins), migrate=True)


@contextmanager
def kms() -> Iterator[Mapping[str, Any]]:
    """moto's server with a key."""
    import boto3  # type: ignore[import-untyped]
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.session.Session("bench", "bench", region_name="eu-west-1").client("kms", endpoint_url=url)
        key = client.create_key()["KeyMetadata"]["Arn"]
        client.close()
        yield {
            "secrets.backend": "kms",
            "secrets.kms.key": key,
            "secrets.kms.region": "eu-west-1",
            "secrets.kms.endpoint_url": url,
            "secrets.kms.access_key_id": SecretStr("bench"),
            "secrets.kms.secret_access_key": SecretStr("bench"),
        }
    finally:
        moto.stop()


@contextmanager
def vault() -> Iterator[Mapping[str, Any]]:
    """OpenBao with a derived transit key."""
    from go_services_core.testing.openbao import openbao_server

    with tempfile.TemporaryDirectory() as folder, openbao_server(Path(folder)) as bao:
        bao.request("POST", "sys/mounts/transit", {"type": "transit"})
        bao.request("POST", "transit/keys/bench", {"derived": True})
        yield {
            "secrets.backend": "vault",
            "secrets.vault.address": bao.address,
            "secrets.vault.key": "bench",
            "secrets.vault.token": SecretStr(bao.root_token),
        }


async def all_of(calls: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    """Every call, a few at a time."""
    left = iter(list(calls))

    async def worker() -> None:
        for call in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


async def connected(runtime: Runtime, count: int) -> list[str]:
    """Connections of as many users."""
    ids: list[str] = []

    async def connect(number: int) -> None:
        fields = {"token": SecretStr(f"token-{number}")}
        made = await runtime.establish("bench", scope=Scope("user", f"u{number}"), fields=fields)
        ids.append(made.id)

    await all_of(lambda number=number: connect(number) for number in range(count))  # type: ignore[misc]
    return ids


async def _executes(url: str, arguments: Mapping[str, Any]) -> tuple[float, float]:
    """Calls of the backend for each scope: of the process that connects, and of one that executes."""
    with tempfile.TemporaryDirectory() as folder:
        async with opening(Path(folder), url, arguments) as runtime:
            CALLS.clear()
            ids = await connected(runtime, SCOPES)
            connecting = CALLS.total() / SCOPES
        async with opening(Path(folder), url, arguments) as runtime:
            CALLS.clear()
            wanted = (ids[number % SCOPES] for number in range(EXECUTES))
            await all_of(lambda to=to: runtime.execute(to, "items.list", {"per_page": 8}) for to in wanted)  # type: ignore[misc]
            return connecting, CALLS.total() / SCOPES


def executes() -> list[Result]:
    """10,000 executes over 1,000 connections with each service."""
    found = []
    with server.running() as url:
        for name, service in (("kms", kms), ("vault", vault)):
            with service() as arguments:
                connecting, executing = asyncio.run(_executes(url, arguments))
            for what, calls in (("connect", connecting), ("execute", executing)):
                row = f"{what}-{name}-calls"
                found.append(plain(row, unit="calls/scope", samples=[calls], target=1.0))
    return found


async def _rewrap(url: str, arguments: Mapping[str, Any], rotate: Callable[[], Any]) -> float:
    """Rows for each call of the backend."""
    with tempfile.TemporaryDirectory() as folder:
        async with opening(Path(folder), url, arguments) as runtime:
            await connected(runtime, 2 * SCOPES)
            rotate()
            CALLS.clear()
            report = await runtime.rewrap(batch=ROWS_A_CALL)
            assert report.complete
            return sum(kind.done for kind in report.kinds) / CALLS["rewrap"]


def rewrap_vault() -> list[Result]:
    """2,000 rows of as many scopes after the server's key was rotated."""
    from go_services_core.testing.openbao import openbao_server

    with server.running() as url, tempfile.TemporaryDirectory() as folder, openbao_server(Path(folder)) as bao:
        bao.request("POST", "sys/mounts/transit", {"type": "transit"})
        bao.request("POST", "transit/keys/bench", {"derived": True})
        arguments = {
            "secrets.backend": "vault",
            "secrets.vault.address": bao.address,
            "secrets.vault.key": "bench",
            "secrets.vault.token": SecretStr(bao.root_token),
        }
        rows = asyncio.run(_rewrap(url, arguments, lambda: bao.request("POST", "transit/keys/bench/rotate", {})))
    return [plain("rewrap-vault", unit="rows/call", samples=[rows], target=ROWS_A_CALL, better="higher")]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"key-services": executes, "rewrap-vault": rewrap_vault}
