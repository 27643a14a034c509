"""Looking at the versions of a key, making one, and ending old ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from go_services_core.errors import CapabilityUnsupported, Conflict, KeyDenied, KeyDisabled, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.secret import SecretStr

from .conftest import CONTEXT, Vault

pytestmark = pytest.mark.integration


async def states(backend: Any) -> list[tuple[str, int, str]]:
    return [(info.key.key_id, info.key.key_version, info.state) for info in await backend.keys()]


async def test_every_version_is_told_with_its_state_and_age(vault: Vault) -> None:
    vault.rotate(3)
    vault.configure(min_decryption_version=3)
    backend = vault.open()
    assert await states(backend) == [
        (vault.key_id, 4, "primary"),
        (vault.key_id, 3, "decrypt-only"),
        (vault.key_id, 2, "retired"),
        (vault.key_id, 1, "retired"),
    ]
    newest, *_, oldest = await backend.keys()
    assert newest.key == await backend.check()
    assert newest.detail.startswith("aes256-gcm96, made ")
    assert datetime.now(UTC).strftime("%Y-") in newest.detail
    assert oldest.detail == "aes256-gcm96"


async def test_destroyed_versions_are_not_told(vault: Vault) -> None:
    vault.rotate(2)
    vault.configure(min_decryption_version=3, min_encryption_version=3)
    vault.server.request("POST", f"transit/keys/{vault.key}/trim", {"min_available_version": 3})
    backend = vault.open()
    assert await states(backend) == [(vault.key_id, 3, "primary")]
    with pytest.raises(KeyNotFound):
        await backend.retire(KeyRef("vault", vault.key_id, 2))


async def test_compatible_keys_follow_and_never_wrap(vault: Vault) -> None:
    for name in ("old", "older"):
        vault.server.request("POST", f"transit/keys/{vault.key}-{name}", {"derived": True})
    vault.server.request("POST", f"transit/keys/{vault.key}-old/rotate")
    vault.server.request("POST", f"transit/keys/{vault.key}-older/rotate")
    root = SecretStr(vault.server.root_token)
    backend = vault.open(token=root, compatible=(f"{vault.key_id}-old:1", f"{vault.key_id}-older"))
    assert await states(backend) == [
        (vault.key_id, 1, "primary"),
        (f"{vault.key_id}-old", 1, "decrypt-only"),
        (f"{vault.key_id}-older", 2, "decrypt-only"),
        (f"{vault.key_id}-older", 1, "decrypt-only"),
    ]
    with pytest.raises(KeyDenied, match=f"key {vault.key_id}-old.*read"):
        await vault.open(compatible=(f"{vault.key_id}-old",)).keys()
    with pytest.raises(CapabilityUnsupported, match="compatible"):
        await backend.retire(KeyRef("vault", f"{vault.key_id}-older", 2))
    assert f"{vault.key_id}-older is 2" in await backend.retire(KeyRef("vault", f"{vault.key_id}-older", 1))


async def test_rotate_makes_a_version_and_a_dry_run_does_not(vault: Vault) -> None:
    backend = vault.open()
    first, second = KeyRef("vault", vault.key_id, 1), KeyRef("vault", vault.key_id, 2)
    assert await backend.rotate(dry_run=True) == (first, second)
    assert await backend.check() == first
    assert await backend.rotate() == (first, second)
    assert await backend.check() == second


async def test_what_the_server_does_itself_is_refused_with_the_way_to_do_it(vault: Vault) -> None:
    backend = vault.open()
    with pytest.raises(CapabilityUnsupported, match=r"secrets\.vault\.key"):
        await backend.rotate(to=f"{vault.key_id}:1")
    with pytest.raises(CapabilityUnsupported, match="go-services secrets rotate"):
        await backend.add_key()
    assert (await backend.check()).key_version == 1


async def test_retire_ends_the_oldest_version_only(vault: Vault) -> None:
    """P54: in order, because transit knows one bound only; the newest never."""
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    vault.rotate(2)
    with pytest.raises(Conflict, match="primary"):
        await backend.retire(KeyRef("vault", vault.key_id, 3))
    with pytest.raises(Conflict, match="Retire version 1 first"):
        await backend.retire(KeyRef("vault", vault.key_id, 2))
    assert "would be 2" in await backend.retire(made.key, dry_run=True)
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    assert "is 2" in await backend.retire(made.key)
    with pytest.raises(KeyDisabled):
        await backend.unwrap(made.wrapped, made.key, CONTEXT)
    assert "before" in await backend.retire(made.key)
    await backend.retire(KeyRef("vault", vault.key_id, 2))
    assert [state for _, _, state in await states(backend)] == ["primary", "retired", "retired"]


async def test_retire_raises_the_least_version_for_wrapping_where_it_is_set(vault: Vault) -> None:
    vault.rotate()
    vault.configure(min_encryption_version=1)
    await vault.open().retire(KeyRef("vault", vault.key_id, 1))
    data = vault.server.request("GET", f"transit/keys/{vault.key}")["data"]
    assert (data["min_decryption_version"], data["min_encryption_version"]) == (2, 2)


@pytest.mark.parametrize("change", [{"backend": "appkey"}, {"key_id": "transit/nobody"}, {"key_version": 9}])
async def test_retire_of_what_is_not_here_changes_nothing(vault: Vault, change: dict[str, Any]) -> None:
    vault.rotate()
    backend = vault.open()
    values = {"backend": "vault", "key_id": vault.key_id, "key_version": 1, **change}
    with pytest.raises(KeyNotFound):
        await backend.retire(KeyRef(**values))
    assert [state for _, _, state in await states(backend)] == ["primary", "decrypt-only"]
