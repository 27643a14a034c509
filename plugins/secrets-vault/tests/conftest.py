"""An OpenBao server for the session, a transit key of the test's own, and backends that are closed in the end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from go_services_core.clock import Clock, SystemClock
from go_services_core.errors import BackendUnavailable
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_core.testing.openbao import OpenBaoServer, Unavailable, openbao_server
from go_services_secrets_vault.backend import VaultBackend, open_backend
from go_services_secrets_vault.settings import VaultSettings

REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"
README = Path(__file__).parents[1] / "README.md"
CONTEXT = bytes(range(32))
OTHER = bytes(range(1, 33))
_numbers = count()


class ShiftedClock(SystemClock):
    """Seconds pass only as the test says, however busy the machine is."""

    shift = 0.0

    def monotonic(self) -> float:
        return self.shift


def environment(
    *, clock: Clock | None = None, resolve: Callable[[str], SecretStr] = SecretStr, logger: str = "test"
) -> PluginEnv:
    return PluginEnv(clock=clock or SystemClock(), logger=logging.getLogger(logger), resolve_secret=resolve)


def documented_policy(key: str, *, administrator: bool = False, mount: str = "transit") -> str:
    """The policy that the README asks for, for another key."""
    blocks = re.findall(r"```text\n(path .*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    text = "\n".join(blocks) if administrator else blocks[0]
    return text.replace("go-services", key).replace("transit/", f"{mount}/")


@attrs.frozen
class Vault:
    """A server with a derived key, and what makes backends for it."""

    server: OpenBaoServer
    key: str
    _opened: list[VaultBackend]

    @property
    def key_id(self) -> str:
        return f"transit/{self.key}"

    def token(self, *, administrator: bool = True, **options: Any) -> SecretStr:
        return SecretStr(self.server.token(documented_policy(self.key, administrator=administrator), **options))

    def settings(self, **changes: Any) -> VaultSettings:
        values = {"address": self.server.address, "key": self.key, **changes}
        if values.get("auth", "token") == "token" and "token" not in values:
            values["token"] = self.token()
        return VaultSettings(**values)

    def open(self, env: PluginEnv | None = None, **changes: Any) -> VaultBackend:
        backend = open_backend(self.settings(**changes), env or environment())
        self._opened.append(backend)
        return backend

    def rotate(self, times: int = 1) -> None:
        for _ in range(times):
            self.server.request("POST", f"transit/keys/{self.key}/rotate")

    def configure(self, **values: Any) -> None:
        self.server.request("POST", f"transit/keys/{self.key}/config", values)

    def approle(self, **options: Any) -> dict[str, Any]:
        """Settings for logging in with a role of its own."""
        role = f"auth/approle/role/{self.key}"
        self.server.request("PUT", f"sys/policies/acl/{self.key}", {"policy": documented_policy(self.key)})
        self.server.request("POST", role, {"token_policies": [self.key], **options})
        role_id = self.server.request("GET", f"{role}/role-id")["data"]["role_id"]
        secret_id = self.server.request("POST", f"{role}/secret-id", {})["data"]["secret_id"]
        return {"auth": "approle", "role_id": role_id, "secret_id": SecretStr(secret_id)}

    def lives(self, role: str | None = None) -> list[dict[str, Any]]:
        """What the server knows of the tokens that logins of the test's role made."""
        found = []
        for accessor in self.server.request("LIST", "auth/token/accessors")["data"]["keys"]:
            data = self.server.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
            if (data["meta"] or {}).get("role_name", (data["meta"] or {}).get("role")) == (role or self.key):
                found.append(data)
        return found

    def revoke_logins(self) -> None:
        for token in self.lives():
            self.server.request("POST", "auth/token/revoke-accessor", {"accessor": token["accessor"]})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBaoServer]:
    try:
        with openbao_server(tmp_path_factory.mktemp("openbao")) as running:
            running.enable("transit", "transit")
            running.enable("secret", "kv", version="2")
            running.request("POST", "sys/auth/approle", {"type": "approle"})
            yield running
    except Unavailable as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(str(reason))


@pytest.fixture
async def vault(server: OpenBaoServer) -> AsyncIterator[Vault]:
    key = f"key-{os.getpid()}-{next(_numbers)}"
    server.request("POST", f"transit/keys/{key}", {"derived": True})
    made = Vault(server, key, [])
    yield made
    for backend in made._opened:
        await backend.aclose()


async def outage(call: Any, reason: str) -> BackendUnavailable:
    """The error of a call that must tell of an outage for this reason."""
    with pytest.raises(BackendUnavailable) as caught:
        await asyncio.wait_for(call, 30)
    assert caught.value.metadata["reason"] == reason
    assert caught.value.plugin == "secrets-vault"
    assert caught.value.hint
    return caught.value
