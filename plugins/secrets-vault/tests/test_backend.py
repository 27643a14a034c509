"""The backend through the conformance kit, through the sealer, and against what only a transit engine does."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import (
    BackendUnavailable,
    BadInput,
    CannotOpen,
    ConfigError,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
)
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.sealing import DataKey, GoEnvelopeReader, KeyLifecycle, WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.openbao import Refused
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer
from go_services_envelope.policy import KeyWindow
from go_services_secrets_vault.backend import BATCH, VaultBackend, open_backend
from go_services_secrets_vault.ciphertext import KeyPath
from go_services_secrets_vault.settings import VaultSettings

from .conftest import CONTEXT, OTHER, Vault, documented_policy, environment

pytestmark = pytest.mark.integration
BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
KEY = SecretBytes(bytes(range(100, 132)))


def asked(made: DataKey, context: bytes = CONTEXT) -> WrappedKey:
    return WrappedKey(wrapped=made.wrapped, key=made.key, context=context)


class TestVault(SecretBackendKit):
    vault: Vault

    @pytest.fixture(autouse=True)
    def _vault(self, vault: Vault) -> None:
        self.vault = vault

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[VaultBackend]:
        backend = self.vault.open(token=self.vault.token(administrator=False), max_concurrency=4)
        yield backend
        await backend.aclose()


async def test_backend_offers_the_life_of_keys_and_reading_of_go_envelopes(vault: Vault) -> None:
    backend = vault.open()
    assert isinstance(backend, KeyLifecycle)
    assert isinstance(backend, GoEnvelopeReader)


async def test_documented_policy_is_enough_and_forbids_the_rest(vault: Vault) -> None:
    """The kit above runs with the README's policy alone; rotating needs more, and the error says what."""
    backend = vault.open(token=vault.token(administrator=False))
    with pytest.raises(KeyDenied) as caught:
        await backend.rotate()
    assert f'"update" on transit/keys/{vault.key}/rotate' in str(caught.value)
    assert caught.value.plugin == "secrets-vault"
    before, after = await vault.open(token=vault.token()).rotate()
    assert (before.key_version, after.key_version) == (1, 2)


async def test_missing_capability_is_named(vault: Vault) -> None:
    policy = documented_policy(vault.key).replace(
        f'path "transit/datakey/plaintext/{vault.key}" {{ capabilities = ["update"] }}', ""
    )
    backend = vault.open(token=SecretStr(vault.server.token(policy)))
    with pytest.raises(KeyDenied, match=f'"update" on transit/datakey/plaintext/{vault.key}'):
        await backend.generate(CONTEXT)


async def test_missing_key_names_the_setting_and_how_to_make_one() -> None:
    settings = VaultSettings(address="http://127.0.0.1:1", token=SecretStr("t"))
    with pytest.raises(ConfigError, match=r"secrets\.vault\.key.*derived=true") as caught:
        open_backend(settings, environment())
    assert caught.value.field == "secrets.vault.key"


async def test_key_that_is_not_on_the_server_is_named_and_never_made(vault: Vault) -> None:
    """P52. Transit's encrypt makes a key that is missing where the policy lets it; so the key is looked at first."""
    missing = f"{vault.key}-missing"
    backend = vault.open(key=missing, token=SecretStr(vault.server.root_token))
    for call in (backend.check(), backend.generate(CONTEXT), backend.wrap(KEY, CONTEXT)):
        with pytest.raises(KeyNotFound, match=f"transit/{missing}"):
            await call
    with pytest.raises(Refused) as gone:
        vault.server.request("GET", f"transit/keys/{missing}")
    assert gone.value.status == 404


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "not derived"),
        ({"derived": True, "type": "aes128-gcm96"}, "aes128-gcm96"),
        ({"type": "rsa-2048"}, "rsa-2048"),
        ({"derived": True, "convergent_encryption": True}, "convergent"),
    ],
)
async def test_unsuitable_key_is_refused_with_the_command_that_makes_a_right_one(
    vault: Vault, options: dict[str, Any], reason: str
) -> None:
    """A key without derivation would ignore the context: a data key could be moved to another connection (P50)."""
    name = f"{vault.key}-other"
    vault.server.request("POST", f"transit/keys/{name}", options)
    backend = vault.open(key=name, token=SecretStr(vault.server.root_token))
    for call in (backend.check(), backend.generate(CONTEXT), backend.wrap(KEY, CONTEXT)):
        with pytest.raises(KeyInvalid, match=reason) as caught:
            await call
        assert "bao write -f transit/keys/NAME derived=true" in str(caught.value)


@pytest.mark.parametrize("type", ["chacha20-poly1305", "xchacha20-poly1305"])
async def test_other_ciphers_of_256_bits_serve_too(vault: Vault, type: str) -> None:
    name = f"{vault.key}-other"
    vault.server.request("POST", f"transit/keys/{name}", {"derived": True, "type": type})
    backend = vault.open(key=name, token=SecretStr(vault.server.root_token))
    assert await backend.check() == KeyRef("vault", f"transit/{name}", 1)


async def test_data_key_of_another_length_or_without_a_context_is_refused(vault: Vault) -> None:
    backend = vault.open()
    with pytest.raises(KeyInvalid):
        await backend.wrap(SecretBytes(bytes(16)), CONTEXT)
    for call in (backend.wrap(KEY, b""), backend.generate(b"")):
        with pytest.raises(BadInput):
            await call


async def test_ciphertext_has_one_form_only(vault: Vault) -> None:
    """The server itself reads v0 as version 1, and may read other spellings of base64."""
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    text = made.wrapped.decode()
    for changed in (
        text.replace("vault:v1:", "vault:v0:"),
        text.replace("vault:v1:", "vault:v01:"),
        text.replace("vault:v1:", "vault:v2:"),
        text + "=",
        text + "\n",
        text[:-4] + "\n" + text[-4:],
        text.replace("vault:", "bao:"),
        "vault:v1:é",
    ):
        with pytest.raises(CannotOpen):
            await backend.unwrap(changed.encode(), made.key, CONTEXT)


async def test_transit_ciphertext_of_another_length_than_a_data_key_does_not_unwrap(vault: Vault) -> None:
    body = {"plaintext": base64.b64encode(b"short").decode(), "context": base64.b64encode(CONTEXT).decode()}
    made = vault.server.request("POST", f"transit/encrypt/{vault.key}", body)["data"]["ciphertext"]
    with pytest.raises(CannotOpen):
        await vault.open().unwrap(made.encode(), KeyRef("vault", vault.key_id, 1), CONTEXT)


# --- versions ----------------------------------------------------------------------------------------------------------


async def test_rotated_key_wraps_with_the_new_version_and_unwraps_with_both(vault: Vault) -> None:
    """P54: a version made inside Vault shows in the key reference, so that rows of the old one count as stale."""
    backend = vault.open()
    old = await backend.generate(CONTEXT)
    vault.rotate()
    new = await backend.wrap(KEY, CONTEXT)
    assert (old.key.key_version, new.key.key_version) == (1, 2)
    assert (await backend.check()).key_version == 2
    assert await backend.unwrap(old.wrapped, old.key, CONTEXT) == old.plaintext
    assert await backend.unwrap(new.wrapped, new.key, CONTEXT) == KEY


async def test_batches_move_to_the_newest_version_on_the_server(vault: Vault) -> None:
    """Without the right to decrypt, no data key can have come here; the order holds over several batches."""
    made = await asyncio.gather(*(vault.open().generate(CONTEXT) for _ in range(3)))
    many = [made[number % 3] for number in range(2 * BATCH + 1)]
    vault.rotate(2)
    policy = documented_policy(vault.key).replace(
        f'path "transit/decrypt/{vault.key}" {{ capabilities = ["update"] }}', ""
    )
    blind = vault.open(token=SecretStr(vault.server.token(policy)))
    with pytest.raises(KeyDenied):
        await blind.unwrap(made[0].wrapped, made[0].key, CONTEXT)
    answers = await blind.rewrap([asked(key) for key in many])
    assert len(answers) == len(many)
    for key, answer in list(zip(many, answers, strict=True))[:: BATCH // 4]:
        assert isinstance(answer, WrappedKey)
        assert answer.key.key_version == 3
        assert await vault.open().unwrap(answer.wrapped, answer.key, CONTEXT) == key.plaintext


async def test_version_below_the_minimum_is_disabled_and_named(vault: Vault) -> None:
    backend = vault.open()
    old = await backend.generate(CONTEXT)
    vault.rotate()
    new = await backend.generate(CONTEXT)
    vault.configure(min_decryption_version=2)
    with pytest.raises(KeyDisabled, match=rf"{vault.key_id} \(version 1\).*min_decryption_version") as caught:
        await backend.unwrap(old.wrapped, old.key, CONTEXT)
    assert "Lower min_decryption_version" in str(caught.value.hint)
    refused, moved = await backend.rewrap([asked(old), asked(new)])
    assert isinstance(refused, KeyDisabled)
    assert isinstance(moved, WrappedKey)
    vault.configure(min_decryption_version=1)
    assert await backend.unwrap(old.wrapped, old.key, CONTEXT) == old.plaintext


async def test_version_that_the_server_does_not_have_yet_is_not_found(vault: Vault) -> None:
    """P54b: a server that was restored, or a replica that is behind, is told apart from a damaged row."""
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    later = made.wrapped.replace(b"vault:v1:", b"vault:v7:")
    with pytest.raises(KeyNotFound, match="version 7") as caught:
        await backend.unwrap(later, attrs.evolve(made.key, key_version=7), CONTEXT)
    assert caught.value.retryable


async def test_key_that_is_soft_deleted_is_disabled(vault: Vault) -> None:
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    vault.configure(deletion_allowed=True)
    vault.server.request("DELETE", f"transit/keys/{vault.key}/soft-delete")
    for call in (backend.check(), backend.generate(CONTEXT), backend.unwrap(made.wrapped, made.key, CONTEXT)):
        with pytest.raises(KeyDisabled, match="restored"):
            await call
    assert [info.state for info in await backend.keys()] == ["pending-deletion"]


# --- policy ------------------------------------------------------------------------------------------------------------


async def test_compatible_key_unwraps_and_rewrap_moves_to_the_primary(vault: Vault) -> None:
    other = f"{vault.key}-next"
    vault.server.request("POST", f"transit/keys/{other}", {"derived": True})
    old = await vault.open().generate(CONTEXT)
    root = SecretStr(vault.server.root_token)
    alone = vault.open(key=other, token=root)
    with pytest.raises(KeyNotFound, match=vault.key_id):
        await alone.unwrap(old.wrapped, old.key, CONTEXT)
    both = vault.open(key=other, token=root, compatible=(vault.key_id,))
    assert await both.unwrap(old.wrapped, old.key, CONTEXT) == old.plaintext
    own = await both.generate(CONTEXT)
    damaged = attrs.evolve(asked(old), context=OTHER)
    moved, stays, refused = await both.rewrap([asked(old), asked(own), damaged])
    assert isinstance(moved, WrappedKey)
    assert isinstance(stays, WrappedKey)
    assert isinstance(refused, CannotOpen)
    assert moved.key.key_id == stays.key.key_id == f"transit/{other}"
    assert await alone.unwrap(moved.wrapped, moved.key, CONTEXT) == old.plaintext


async def test_every_key_of_the_server_unwraps_only_when_that_is_switched_on(vault: Vault) -> None:
    """Even then a reference out of a stolen database leads to no other endpoint of the server."""
    old = await vault.open().generate(CONTEXT)
    other = f"{vault.key}-next"
    vault.server.request("POST", f"transit/keys/{other}", {"derived": True})
    backend = vault.open(key=other, token=SecretStr(vault.server.root_token), allow_any_key=True)
    assert await backend.unwrap(old.wrapped, old.key, CONTEXT) == old.plaintext
    for key_id in ("services", "../sys/x", "transit/../sys/x", "transit/..", "/x", "transit/a b", "transit/a?b"):
        with pytest.raises(KeyNotFound, match="MOUNT/KEY"):
            await backend.unwrap(old.wrapped, attrs.evolve(old.key, key_id=key_id), CONTEXT)


async def test_check_finds_a_key_that_does_not_give_back_what_it_wrapped(vault: Vault) -> None:
    class Broken(VaultBackend):
        async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
            await super().unwrap(wrapped, key, context)
            return SecretBytes(bytes(32))

    settings = vault.settings()
    broken = Broken(settings, KeyPath(settings.mount, vault.key), environment())
    with pytest.raises(KeyInvalid, match="give back"):
        await broken.check()
    await broken.aclose()


async def test_windows_gate_wrapping_and_unwrapping_apart(vault: Vault) -> None:
    made = await vault.open().generate(CONTEXT)
    past, future = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 3))
    closed = vault.open(windows=(KeyWindow(key=vault.key_id, encrypt_until=past, decrypt_until=future),))
    for call in (closed.generate(CONTEXT), closed.wrap(KEY, CONTEXT), closed.rewrap([asked(made)]), closed.check()):
        with pytest.raises(KeyDisabled, match="encrypt window"):
            await call
    assert await closed.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    assert any("decrypt window ends" in text for info in await closed.keys() for text in info.warnings)
    shut = vault.open(windows=(KeyWindow(key=f"{vault.key_id}:1", decrypt_until=past),))
    with pytest.raises(KeyDisabled, match="decrypt window"):
        await shut.unwrap(made.wrapped, made.key, CONTEXT)
    (answer,) = await shut.rewrap([asked(made)])
    assert isinstance(answer, KeyDisabled)


# --- the whole ---------------------------------------------------------------------------------------------------------


async def test_sealed_record_opens_only_under_its_binding_and_survives_a_rewrap(vault: Vault) -> None:
    """P50, through envelope and server."""
    sealer = Sealer(vault.open(), store_id="s", clock=SystemClock())
    sealed = await sealer.seal(b"token", BINDING)
    vault.rotate()
    row = SealedRow(
        kind="credential", id="1", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", sealed=sealed
    )
    (moved,) = await sealer.rewrap([row])
    assert isinstance(moved, Sealed)
    assert (sealed.key.key_version, moved.key.key_version) == (1, 2)
    fresh = Sealer(vault.open(), store_id="s", clock=SystemClock())
    assert await fresh.open(moved, BINDING) == SecretBytes(b"token")
    with pytest.raises(CannotOpen):
        await fresh.open(moved, attrs.evolve(BINDING, scope=Scope("user", "u2")))


async def test_data_keys_are_asked_once_per_life_and_scope(vault: Vault) -> None:
    backend = vault.open()
    calls = []

    class Counting:
        id = backend.id

        async def generate(self, context: bytes) -> DataKey:
            calls.append(context)
            return await backend.generate(context)

    sealer = Sealer(Counting(), store_id="s", clock=SystemClock())  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.gather(*(sealer.seal(b"token", BINDING) for _ in range(50)))
    assert len(calls) == 1


async def test_nothing_shows_a_token_or_a_data_key(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = vault.token()
    backend = vault.open(token=token)
    made = await backend.generate(CONTEXT)
    shown = [repr(backend), repr(vars(backend)), repr(vault.settings(token=token)), repr(made)]
    failures = []
    for call in (
        backend.unwrap(made.wrapped, made.key, OTHER),
        backend.wrap(made.plaintext, b""),
        vault.open(address="http://127.0.0.1:9", max_attempts=1, token=token).wrap(made.plaintext, CONTEXT),
        vault.open(token=SecretStr("wrong-token-of-mine")).wrap(made.plaintext, CONTEXT),
    ):
        with pytest.raises(Exception) as caught:
            await call
        failures.append(caught.value)
    vault.server.request("POST", "auth/token/revoke", {"token": token.reveal()})
    with pytest.raises(KeyDenied) as denied:
        await backend.wrap(made.plaintext, CONTEXT)
    failures.append(denied.value)
    for failure in failures:
        found = traceback.TracebackException.from_exception(failure, capture_locals=True)
        shown += [*found.format(), str(vars(failure))]
        assert failure.__context__ is None or not hasattr(failure.__context__, "request")
    shown += [record.getMessage() for record in caplog.records]
    raw = made.plaintext.reveal()
    for secret in (token.reveal(), "wrong-token-of-mine", raw.hex(), base64.b64encode(raw).decode(), repr(raw)[2:-1]):
        assert secret not in "\n".join(shown)
    with pytest.raises(TypeError):
        pickle.dumps(backend)
    with pytest.raises(TypeError):
        copy.deepcopy(backend)


async def test_closed_backend_says_so(vault: Vault) -> None:
    backend = vault.open()
    made = await backend.generate(CONTEXT)
    await backend.aclose()
    for call in (backend.generate(CONTEXT), backend.check(), backend.unwrap(made.wrapped, made.key, CONTEXT)):
        with pytest.raises(BackendUnavailable, match="closed"):
            await call
