"""The backend through the conformance kit and through the sealer."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import BackendUnavailable, CannotOpen, ConfigError, KeyInvalid, KeyNotFound
from go_services_core.model import Binding, KeyRef, Scope
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_envelope import Sealer
from go_services_secrets_appkey.backend import AppKeyBackend, open_backend
from go_services_secrets_appkey.key import generate_key, parse_key
from go_services_secrets_appkey.settings import AppKeySettings

BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
CONTEXT = bytes(32)


def opened(key: SecretStr | None = None, *decrypt_only: SecretStr) -> AppKeyBackend:
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    return open_backend(AppKeySettings(key=key or generate_key(), decrypt_only=decrypt_only), env)


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

    rewrapped = await sealer.rewrap(sealed, provider_id="github", scope=Scope("user", "u1"))
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
        AppKeyBackend(SecretBytes(bytes(size)))
    with pytest.raises(KeyInvalid):
        await opened().wrap(SecretBytes(bytes(size)), CONTEXT)


async def test_check_finds_a_key_that_does_not_give_back_what_it_wrapped() -> None:
    class Broken(AppKeyBackend):
        async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
            await super().unwrap(wrapped, key, context)
            return SecretBytes(bytes(32))

    with pytest.raises(KeyInvalid, match="give back"):
        await Broken(parse_key(generate_key(), field="key")).check()
