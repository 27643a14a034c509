"""Secrets in settings that are kept elsewhere: read in a thread before they are used, again when they were refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from ..config.secrets import SourcedSecret
from ..errors import ConfigError, ServicesError, TokenEndpointError
from ..protocols import Flow
from .core import Core

if TYPE_CHECKING:
    from ..providers import ProviderInstance

T = TypeVar("T")

REFUSED: Final = ("invalid_client", "unauthorized_client")
"""What a token endpoint says of a client secret that is not the current one (RFC 6749 §5.2)."""
PAUSE: Final = 30.0
"""Seconds between two readings for the reason that a secret was refused: whoever can be refused could ask for them."""


async def prepared(core: Core, instance: ProviderInstance) -> None:
    """Read those secrets of a provider's settings that were never read, or too long ago.

    Raises:
        ConfigError, BackendUnavailable, KeyDenied: one cannot be read, and has no earlier value.
    """
    for secret in _sourced(core, instance):
        if secret.is_stale:
            await asyncio.to_thread(secret.read)


async def drive(
    core: Core, instance: ProviderInstance, make: Callable[[], Flow[T]], *, timeout: float | None = None
) -> T:
    """Run the flow that ``make`` gives; once more where the client secret was refused and a newer one was found."""
    await prepared(core, instance)
    try:
        result: T = await core.drive(make(), provider_id=instance.id, timeout=timeout)
    except TokenEndpointError as refused:
        if refused.error not in REFUSED or not await read_again(core, instance):
            raise
        result = await core.drive(make(), provider_id=instance.id, timeout=timeout)
    return result


async def read_again(core: Core, instance: ProviderInstance) -> bool:
    """Read the provider's secrets because one of them was refused; gives whether any is another now."""
    secrets = _sourced(core, instance)
    now = core.clock.monotonic()
    if not secrets or now < core.next_reading.get(instance.id, now):
        return False
    core.next_reading[instance.id] = now + PAUSE
    return any([await asyncio.to_thread(secret.read, again=True) for secret in secrets])


async def read_ahead(settings: object) -> None:
    """Read what stands in ``settings`` and was never read, so that whoever uses it does not block the loop.

    One that cannot be read is left: who needs it is told.
    """
    for secret in _within(settings):
        if not secret.is_read:
            with suppress(ServicesError):
                await asyncio.to_thread(secret.read)


async def check(core: Core) -> int:
    """Read every secret of the providers' settings that was not read yet; see ``Runtime.check_settings``."""
    secrets = {id(secret): secret for instance in core.instances.values() for secret in _sourced(core, instance)}
    problems = []
    for secret in secrets.values():
        try:
            await asyncio.to_thread(secret.read)
        except ServicesError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems=problems)
    return len(secrets)


def _sourced(core: Core, instance: ProviderInstance) -> tuple[SourcedSecret, ...]:
    found = core.sourced.get(instance.id)
    if found is None:
        parts = (instance.settings, instance.webhook_secrets, *instance.strategy_settings.values())
        found = core.sourced[instance.id] = tuple({id(secret): secret for secret in _within(parts)}.values())
    return found


def _within(value: Any) -> Iterable[SourcedSecret]:
    if isinstance(value, SourcedSecret):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _within(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _within(item)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _within(getattr(value, field.name))
