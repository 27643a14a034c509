"""The source vault://PATH#FIELD against a real KV engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from go_services_core.config.secrets import SourceSettings
from go_services_core.errors import BackendUnavailable, ConfigError, KeyDenied
from go_services_core.secret import SecretStr
from go_services_core.testing.openbao import Refused
from go_services_secrets_vault.kv import VaultSource
from go_services_secrets_vault.settings import VaultSettings

from .conftest import ShiftedClock, Vault, environment

pytestmark = pytest.mark.integration


def opened(vault: Vault, env: Any = None, **changes: Any) -> VaultSource:
    values: dict[str, Any] = {"address": vault.server.address, "token": SecretStr(vault.server.root_token), **changes}
    made = SourceSettings(Path(), {}, VaultSettings(**values))
    return VaultSource(made, env or environment())


@pytest.fixture
def path(vault: Vault) -> str:
    path = f"app/{vault.key}"
    vault.server.request("POST", f"secret/data/{path}", {"data": {"client_secret": "s3cr3t ü", "id": 5, "empty": ""}})
    return path


def test_field_of_the_newest_version_is_read_each_time(vault: Vault, path: str) -> None:
    source = opened(vault)
    assert source.get(f"//{path}#client_secret") == SecretStr("s3cr3t ü")
    vault.server.request("POST", f"secret/data/{path}", {"data": {"client_secret": "new"}})
    assert source.get(f"//{path}#client_secret") == SecretStr("new")
    assert source.get(f"//{path}") == SecretStr("new")


def test_other_mount_is_read(vault: Vault) -> None:
    mount = f"kv-{vault.key}"
    vault.server.enable(mount, "kv", version="2")
    until = time.monotonic() + 20
    while True:  # an engine of version 2 is being made ready for a moment after it was mounted
        try:
            vault.server.request("POST", f"{mount}/data/a%20b", {"data": {"x": "1"}})
            break
        except Refused:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert opened(vault, kv_mount=mount).get("//a b#x") == SecretStr("1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("//{path}#nothing", "has no such field"),
        ("//{path}#empty", "is empty"),
        ("//{path}#id", "is not text"),
        ("//{path}", "has 3 fields; name one"),
        ("//{path}/nothing#x", "leads to no secret below secret"),
        ("//{path}#", "is not the name of a secret"),
        ("{path}#client_secret", "is not the name of a secret"),
        ("//#x", "is not the name of a secret"),
        ("//", "is not the name of a secret"),
        ("", "is not the name of a secret"),
        ("//{path}/../other#x", "is not the name of a secret"),
        ("//{path}//x#x", "is not the name of a secret"),
        ("///{path}#client_secret", "is not the name of a secret"),
    ],
)
def test_reference_that_leads_to_nothing_is_named(vault: Vault, path: str, name: str, reason: str) -> None:
    name = name.format(path=path)
    with pytest.raises(ConfigError) as caught:
        opened(vault).get(name)
    assert f"vault:{name} " in str(caught.value)
    assert reason in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_deleted_secret_is_gone(vault: Vault, path: str) -> None:
    vault.server.request("DELETE", f"secret/data/{path}")
    with pytest.raises(ConfigError, match="leads to no secret"):
        opened(vault).get(f"//{path}#client_secret")


def test_secret_that_the_policy_does_not_allow_is_denied(vault: Vault, path: str) -> None:
    policy = 'path "secret/data/app/allowed" { capabilities = ["read"] }'
    source = opened(vault, token=SecretStr(vault.server.token(policy)))
    with pytest.raises(KeyDenied, match=f'"read" on secret/data/{path}'):
        source.get(f"//{path}#client_secret")


async def test_sealed_server_is_an_outage_and_the_source_recovers(vault: Vault, path: str) -> None:
    source = opened(vault)
    await asyncio.to_thread(vault.server.seal)
    try:
        with pytest.raises(BackendUnavailable) as caught:
            await asyncio.to_thread(source.get, f"//{path}#client_secret")
    finally:
        await asyncio.to_thread(vault.server.unseal)
    assert caught.value.metadata["reason"] == "sealed"
    assert await asyncio.to_thread(source.get, f"//{path}#client_secret") == SecretStr("s3cr3t ü")


def test_source_logs_in_once_and_again_when_its_token_died(vault: Vault, path: str) -> None:
    clock = ShiftedClock()
    role = vault.approle(token_ttl="60s")
    policy = 'path "secret/data/app/*" { capabilities = ["read"] }'
    vault.server.request("PUT", f"sys/policies/acl/{vault.key}", {"policy": policy})
    source = opened(vault, environment(clock=clock), **role)
    for _ in range(3):
        assert source.get(f"//{path}#client_secret")
    (before,) = vault.lives()
    vault.revoke_logins()
    assert source.get(f"//{path}#client_secret")
    (after,) = vault.lives()
    assert before["accessor"] != after["accessor"]
    clock.shift = 45.0
    assert source.get(f"//{path}#client_secret")
    (renewed,) = vault.lives()
    assert renewed["last_renewal"]
