"""What every attack on a callback is measured by: its own error code, and a good connection that feels nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from go_services_core import Connection, Runtime
from go_services_core.errors import ServicesError

from .conftest import App


@asynccontextmanager
async def unharmed(app: App, runtime: Runtime) -> AsyncIterator[Connection]:
    """P07: a good connection, which is what it was after whatever is done inside."""
    good = await app.connect(runtime)
    before = await app.stored(runtime, good.id), await app.events(runtime)
    yield good
    assert (await app.stored(runtime, good.id), await app.events(runtime)) == before
    assert [item.id for item in (await runtime.connections()).items] == [good.id]
    assert (await runtime.execute(good.id, "me")).status == 200


async def refused(call: Awaitable[Any], code: str) -> ServicesError:
    """The error of that code with which ``call`` ends."""
    with pytest.raises(ServicesError) as caught:
        await call
    assert caught.value.code == code, caught.value
    return caught.value
