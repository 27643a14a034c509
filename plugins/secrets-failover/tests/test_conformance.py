"""Every rule of a secret backend, over the application's own key and a member of another kind, both ways round."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from go_services_core.errors import BackendUnavailable
from go_services_core.testing.pytest_kit import SecretBackendKit
from go_services_secrets_failover.backend import FailoverBackend

from .members import Local, Pair, app_key


class TestAppKeyFirst(SecretBackendKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FailoverBackend]:
        key = app_key()
        yield Pair(primary=key, fallback=Local("far")).backend
        await key.aclose()


class TestAppKeySecond(SecretBackendKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FailoverBackend]:
        key = app_key()
        yield Pair(primary=Local("near"), fallback=key, policy="fallback_allowed").backend
        await key.aclose()


class TestAppKeyAlone(SecretBackendKit):
    """Without a fallback it is the primary behind a circuit breaker."""

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FailoverBackend]:
        key = app_key()
        yield Pair.alone(key)
        await key.aclose()


async def test_stand_in_keeps_the_rules_of_a_data_key_as_well() -> None:
    """What the fallback makes opens under its own reference and context, and under nothing else."""
    from go_services_core.testing.checks import secrets as checks

    key = app_key()
    pair = Pair(primary=Local("near"), fallback=key, policy="fallback_allowed")
    pair.primary.switch.error = BackendUnavailable("off")
    for check in (
        checks.generated_key_unwraps_to_itself,
        checks.generated_keys_are_never_equal,
        checks.other_context_does_not_unwrap,
        checks.changed_wrapped_key_does_not_unwrap,
        checks.other_key_version_does_not_unwrap,
        checks.nothing_prints_a_key,
    ):
        await check(pair.backend)
    assert (await pair.backend.generate(bytes(32))).key.backend == "appkey"
    await key.aclose()
