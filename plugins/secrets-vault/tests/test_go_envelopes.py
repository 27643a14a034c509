"""Envelopes of the Go system: whatever its application sealed with a transit key (reference: security/vault_provider.go)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from go_services_core.errors import CannotOpen, KeyDisabled, KeyNotFound
from go_services_core.sealing import GoEnvelope
from go_services_core.secret import SecretBytes, SecretStr

from .conftest import Vault

pytestmark = pytest.mark.integration


@pytest.fixture
def sealed(vault: Vault) -> Iterator[GoEnvelope]:
    """A key of a mount with two parts, and what it sealed."""
    server, mount = vault.server, f"apps/{vault.key}"
    server.enable(mount, "transit")
    server.request("POST", f"{mount}/keys/services", {})
    server.request("POST", f"{mount}/keys/services/rotate", {})
    body = {"plaintext": base64.b64encode(b'{"access_token": "gho"}').decode()}
    text = server.request("POST", f"{mount}/encrypt/services", body)["data"]["ciphertext"]
    assert text.startswith("vault:v2:")
    yield GoEnvelope(key_id=f"{mount}/services", key_version=1, algorithm="vault", ciphertext=text.encode())
    server.request("DELETE", f"sys/mounts/{mount}")


def reading(vault: Vault, envelope: GoEnvelope, **changes: Any) -> Any:
    values = {"go_envelopes": True, "compatible": (envelope.key_id,), "token": SecretStr(vault.server.root_token)}
    return vault.open(**{**values, **changes})


async def test_envelope_opens_by_its_key_path(vault: Vault, sealed: GoEnvelope) -> None:
    backend = reading(vault, sealed)
    assert await backend.open_go(sealed) == SecretBytes(b'{"access_token": "gho"}')


async def test_key_path_without_a_mount_is_in_the_configured_one(vault: Vault, sealed: GoEnvelope) -> None:
    mount = sealed.key_id.removesuffix("/services")
    backend = reading(vault, sealed, mount=mount)
    assert await backend.open_go(attrs.evolve(sealed, key_id="services")) == SecretBytes(b'{"access_token": "gho"}')


async def test_envelopes_are_read_only_when_switched_on(vault: Vault, sealed: GoEnvelope) -> None:
    with pytest.raises(CannotOpen, match="go_envelopes") as caught:
        await reading(vault, sealed, go_envelopes=False).open_go(sealed)
    assert caught.value.field == "secrets.vault.go_envelopes"
    with pytest.raises(CannotOpen):
        await reading(vault, sealed).open_go(attrs.evolve(sealed, prefixed=False))


async def test_other_algorithm_and_key_are_not_found(vault: Vault, sealed: GoEnvelope) -> None:
    backend = reading(vault, sealed, compatible=(f"{sealed.key_id}:1",))
    assert await backend.open_go(sealed)
    for changed in ({"algorithm": "kms"}, {"key_id": "transit/other"}, {"key_version": 2}):
        with pytest.raises(KeyNotFound):
            await backend.open_go(attrs.evolve(sealed, **changed))


async def test_changed_envelope_does_not_open(vault: Vault, sealed: GoEnvelope) -> None:
    backend = reading(vault, sealed)
    raw = bytearray(base64.b64decode(sealed.ciphertext.removeprefix(b"vault:v2:")))
    raw[-1] ^= 1
    changed = b"vault:v2:" + base64.b64encode(bytes(raw))
    for ciphertext in (changed, b"", b"\xff", b"vault:v2:", sealed.ciphertext.replace(b"v2", b"v1")):
        with pytest.raises(CannotOpen):
            await backend.open_go(attrs.evolve(sealed, ciphertext=ciphertext))


async def test_version_below_the_minimum_is_disabled(vault: Vault, sealed: GoEnvelope) -> None:
    vault.server.request("POST", f"{sealed.key_id.replace('/services', '/keys/services')}/rotate")
    config = f"{sealed.key_id.replace('/services', '/keys/services')}/config"
    vault.server.request("POST", config, {"min_decryption_version": 3})
    with pytest.raises(KeyDisabled, match="version 2"):
        await reading(vault, sealed).open_go(sealed)
