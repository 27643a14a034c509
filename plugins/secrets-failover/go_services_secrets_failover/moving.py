"""Moving data keys from the backend that wrapped them to another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from go_services_core.errors import BackendUnavailable, KeyInvalid, SecretError
from go_services_core.model import KeyRef
from go_services_core.sealing import DataKey, WrappedKey
from go_services_core.secret import SecretBytes

AT_ONCE: Final = 8
"""Data keys that are in clear at the same time."""


async def move(
    keys: Sequence[WrappedKey],
    *,
    unwrap: Callable[[bytes, KeyRef, bytes], Awaitable[SecretBytes]],
    wrap: Callable[[SecretBytes, bytes], Awaitable[DataKey]],
) -> list[WrappedKey | SecretError]:
    """The same data keys as ``wrap`` wraps them, in their order; an error in the place of one that cannot be had.

    Once ``unwrap`` does not answer, it is not asked for the rest.

    Raises:
        SecretError: what ``wrap`` raises, unless it is about the data key.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    gone: BackendUnavailable | None = None

    async def one(key: WrappedKey) -> WrappedKey | SecretError:
        nonlocal gone
        async with gate:
            if gone is not None:
                return gone
            try:
                clear = await unwrap(key.wrapped, key.key, key.context)
            except BackendUnavailable as error:
                gone = error
                return error
            except SecretError as error:
                return error
            try:
                made = await wrap(clear, key.context)
            except KeyInvalid as error:
                return error
            return WrappedKey(wrapped=made.wrapped, key=made.key, context=key.context)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(key)) for key in keys]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
