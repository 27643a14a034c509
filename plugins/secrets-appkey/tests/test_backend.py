"""The backend through the conformance kit and through the sealer."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from go_services_core.clock import Clock, SystemClock
from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    CapabilityUnsupported,
    ConfigError,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import GoEnvelope, GoEnvelopeReader, KeyLifecycle, WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer
from go_services_envelope.policy import KeyWindow
from go_services_secrets_appkey.backend import AppKeyBackend, keys_of, open_backend
from go_services_secrets_appkey.go_keys import GoKey
from go_services_secrets_appkey.key import generate_key, parse_key
from go_services_secrets_appkey.settings import AppKeySettings
from go_services_secrets_appkey.wrapping import WrappingKey

BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
CONTEXT = bytes(32)


def opened(
    key: SecretStr | None = None, *decrypt_only: SecretStr, clock: Clock | None = None, **settings: Any
) -> AppKeyBackend:
    env = PluginEnv(clock=clock or SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    return open_backend(AppKeySettings(key=key or generate_key(), decrypt_only=decrypt_only, **settings), env)


def id_of(key: SecretStr) -> str:
    return WrappingKey(parse_key(key, field="key")).key_id


class TestAppKey(SecretBackendKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[AppKeyBackend]:
        backend = opened(generate_key(), generate_key())
        yield backend
        await backend.aclose()


async def test_missing_key_names_the_setting_and_the_remedy() -> None:
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    with pytest.raises(ConfigError, match=r"secrets\.appkey\.key.*python -m go_services_secrets_appkey") as caught:
        open_backend(AppKeySettings(), env)
    assert caught.value.field == "secrets.appkey.key"
    assert caught.value.plugin == "secrets-appkey"


async def test_unusable_key_fails_at_start_and_names_its_setting() -> None:
    """P52: a short or mangled key is an error at start-up, never a weaker key."""
    with pytest.raises(KeyInvalid) as caught:
        opened(SecretStr("changeme"))
    assert caught.value.field == "secrets.appkey.key"
    with pytest.raises(KeyInvalid) as caught:
        opened(generate_key(), generate_key(), SecretStr("gsk1_short"))
    assert caught.value.field == "secrets.appkey.decrypt_only[1]"
    assert "short" not in str(caught.value)


async def test_wrong_key_is_recognised_by_name_not_as_damage() -> None:
    mine, other = opened(), opened()
    sealed = await Sealer(mine, store_id="s", clock=SystemClock()).seal(b"token", BINDING)
    with pytest.raises(KeyNotFound) as caught:
        await Sealer(other, store_id="s", clock=SystemClock()).open(sealed, BINDING)
    message = str(caught.value)
    assert (await mine.check()).key_id in message
    assert (await other.check()).key_id in message
    assert "secrets.appkey.decrypt_only" in message
    assert caught.value.field == "secrets.appkey.key"


async def test_key_id_follows_from_the_key_alone() -> None:
    """P52: web processes and workers that hold the same key use the same key id."""
    key = generate_key()
    assert await opened(key).check() == await opened(key, generate_key()).check()
    assert await opened().check() != await opened().check()


async def test_replaced_key_still_opens_and_rewraps_but_no_longer_seals() -> None:
    old, new = generate_key(), generate_key()
    sealed = await Sealer(opened(old), store_id="s", clock=SystemClock()).seal(b"token", BINDING)
    rotated = opened(new, old)
    sealer = Sealer(rotated, store_id="s", clock=SystemClock())

    assert await sealer.open(sealed, BINDING) == SecretBytes(b"token")
    assert (await sealer.seal(b"token", BINDING)).key == await rotated.check() != sealed.key

    row = SealedRow(
        kind="credential", id="1", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", sealed=sealed
    )
    (rewrapped,) = await sealer.rewrap([row])
    assert isinstance(rewrapped, Sealed)
    alone = Sealer(opened(new), store_id="s", clock=SystemClock())
    assert await alone.open(rewrapped, BINDING) == SecretBytes(b"token")
    with pytest.raises(KeyNotFound):
        await alone.open(sealed, BINDING)


async def test_key_wrapped_under_one_key_does_not_unwrap_under_another_of_the_same_backend() -> None:
    old, new = generate_key(), generate_key()
    before = await opened(old).generate(CONTEXT)
    rotated = opened(new, old)
    with pytest.raises(CannotOpen):
        await rotated.unwrap(before.wrapped, await rotated.check(), CONTEXT)


async def test_master_key_itself_encrypts_nothing_and_is_in_no_output() -> None:
    text = generate_key()
    backend = opened(text)
    raw = parse_key(text, field="key").reveal()
    made = await backend.generate(CONTEXT)
    shown = repr([backend, vars(backend), made, await backend.check(), AppKeySettings(key=text)])
    for secret in (raw.hex(), repr(raw)[2:-1], text.reveal(), text.reveal()[5:]):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(backend)
    with pytest.raises(TypeError):
        copy.deepcopy(backend)


async def test_closed_backend_says_so() -> None:
    backend = opened()
    made = await backend.generate(CONTEXT)
    await backend.aclose()
    for call in (backend.generate(CONTEXT), backend.check(), backend.unwrap(made.wrapped, made.key, CONTEXT)):
        with pytest.raises(BackendUnavailable, match="closed"):
            await call


@pytest.mark.parametrize("size", [0, 16, 31, 33])
async def test_keys_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(KeyInvalid):
        WrappingKey(SecretBytes(bytes(size)))
    with pytest.raises(KeyInvalid):
        await opened().wrap(SecretBytes(bytes(size)), CONTEXT)


async def test_check_finds_a_key_that_does_not_give_back_what_it_wrapped() -> None:
    class Broken(AppKeyBackend):
        async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
            await super().unwrap(wrapped, key, context)
            return SecretBytes(bytes(32))

    settings = AppKeySettings(key=generate_key())
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    with pytest.raises(KeyInvalid, match="give back"):
        await Broken(settings, env, keys_of(settings)).check()


@pytest.mark.parametrize(
    ("wrong", "field", "named"),
    [
        ({"keyring": Path("keys.toml")}, "secrets.appkey.key", r"secrets\.appkey\.key.*secrets\.appkey\.keyring"),
        ({"passphrase_from": "env:P"}, "secrets.appkey.passphrase_from", "only in a keyring"),
        ({"compatible": ("old",)}, "secrets.appkey.compatible", "means nothing here"),
        ({"allow_any_key": True}, "secrets.appkey.allow_any_key", "means nothing here"),
        ({"windows": (KeyWindow(key="app-key-typo"),)}, "secrets.appkey.windows", "app-key-typo"),
    ],
)
async def test_setting_that_means_nothing_or_contradicts_is_refused(
    wrong: dict[str, Any], field: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        opened(**wrong)
    assert caught.value.field == field
    assert caught.value.hint


async def test_keys_are_shown_with_state_setting_and_warnings() -> None:
    new, old = generate_key(), generate_key()
    window = KeyWindow(key=id_of(old), decrypt_until=datetime(2026, 1, 10, tzinfo=UTC))
    backend = opened(new, old, clock=FrozenClock(), windows=(window,))
    assert isinstance(backend, KeyLifecycle)
    primary, other = await backend.keys()
    assert (primary.key.key_id, primary.state, primary.detail) == (id_of(new), "primary", "secrets.appkey.key")
    assert (other.key.key_id, other.state) == (id_of(old), "decrypt-only")
    assert other.detail == "secrets.appkey.decrypt_only[0]"
    assert not primary.warnings
    assert "decrypt window ends on 2026-01-10, in 9 days" in other.warnings


async def test_windows_of_wrapping_and_unwrapping_are_separate() -> None:
    new, old = generate_key(), generate_key()
    clock = FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))
    turn = datetime(2026, 1, 2, tzinfo=UTC)
    windows = (KeyWindow(key=id_of(new), encrypt_until=turn), KeyWindow(key=f"{id_of(old)}:1", decrypt_until=turn))
    backend = opened(new, old, clock=clock, windows=windows)
    under_new = await backend.generate(CONTEXT)
    under_old = await opened(old).generate(CONTEXT)
    assert await backend.unwrap(under_old.wrapped, under_old.key, CONTEXT) == under_old.plaintext

    clock.advance(2 * 86400)
    for call in (backend.generate(CONTEXT), backend.check(), backend.unwrap(under_old.wrapped, under_old.key, CONTEXT)):
        with pytest.raises(KeyDisabled, match="window ended"):
            await call
    assert await backend.unwrap(under_new.wrapped, under_new.key, CONTEXT) == under_new.plaintext
    asked = WrappedKey(wrapped=under_new.wrapped, key=under_new.key, context=CONTEXT)
    with pytest.raises(KeyDisabled, match=id_of(new)):
        await backend.rewrap([asked])


async def test_rewrap_puts_a_closed_window_in_the_place_of_its_key() -> None:
    new, old = generate_key(), generate_key()
    window = KeyWindow(key=id_of(old), decrypt_until=datetime(2025, 1, 1, tzinfo=UTC))
    backend = opened(new, old, clock=FrozenClock(), windows=(window,))
    made = [await opened(old).generate(CONTEXT), await opened(new).generate(CONTEXT)]
    closed, fine = await backend.rewrap([WrappedKey(wrapped=m.wrapped, key=m.key, context=CONTEXT) for m in made])
    assert isinstance(closed, KeyDisabled)
    assert isinstance(fine, WrappedKey)


async def test_keys_of_the_settings_are_changed_by_people_who_are_told_how() -> None:
    backend = opened()
    key = await backend.check()
    for call, words in (
        (backend.add_key(), "python -m go_services_secrets_appkey.*decrypt_only in every process"),
        (backend.rotate(), "every process runs with the new key.*make it secrets.appkey.key"),
        (backend.retire(key), f"{key.key_id} out of secrets.appkey.decrypt_only"),
    ):
        with pytest.raises(CapabilityUnsupported, match=words) as caught:
            await call
        assert "secrets.appkey.keyring" in str(caught.value)


async def test_go_keys_of_the_settings_open_what_the_go_system_sealed() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    material = "0123456789abcdef0123456789abcdef"
    backend = opened(go_keys=(GoKey(id="app-key", version=2, material=SecretStr(material)),))
    assert isinstance(backend, GoEnvelopeReader)
    bound = b"services.secret.v1:|app-key|2|aes-256-gcm"
    sealed = AESGCM(material.encode()).encrypt(bytes(12), b"token", bound)
    envelope = GoEnvelope(key_id="app-key", key_version=2, algorithm="aes-256-gcm", nonce=bytes(12), ciphertext=sealed)
    assert await backend.open_go(envelope) == SecretBytes(b"token")
    with pytest.raises(SecretError):
        await opened().open_go(envelope)
    bare = GoEnvelope(
        key_id="", key_version=0, algorithm="", nonce=bytes(12), prefixed=False,
        ciphertext=AESGCM(material.encode()).encrypt(bytes(12), b"old", None),
    )  # fmt: skip
    with pytest.raises(CannotOpen, match="go_without_prefix"):
        await backend.open_go(bare)
    keys = (GoKey(material=SecretStr(material)),)
    assert await opened(go_keys=keys, go_without_prefix=True).open_go(bare) == SecretBytes(b"old")
    await backend.aclose()
    with pytest.raises(BackendUnavailable, match="closed"):
        await backend.open_go(envelope)
    assert repr(backend._go) == "GoKeys([])", "closing forgets these keys too"


async def test_wrapped_form_is_the_documented_one() -> None:
    """docs/reference/envelope.md, written anew from the page alone."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    text = generate_key()
    made = await opened(text).generate(CONTEXT)
    raw = parse_key(text, field="key").reveal()
    fingerprint = HKDF(SHA256(), 4, None, b"go-services/appkey/1/id").derive(raw).hex()
    assert made.key == KeyRef("appkey", f"app-key-{fingerprint}", 1)
    fields = (b"appkey", f"app-key-{fingerprint}".encode(), b"\x00\x00\x00\x01", CONTEXT)
    bound = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    wrap = AESGCM(HKDF(SHA256(), 32, None, b"go-services/appkey/1/wrap").derive(raw))
    assert len(made.wrapped) == 60
    assert wrap.decrypt(made.wrapped[:12], made.wrapped[12:], bound) == made.plaintext.reveal()
