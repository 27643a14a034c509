"""Processes of their own that subscribe and renew, and that kill themselves where they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from .refresh_workers import HEAD, declared, started

WORKER = (
    HEAD
    + """
action, subject, point = sys.argv[2:5]

def arm(core):
    place, _, rest = point.partition(" ")
    resources = core.store.resources
    if place == "before-intent":
        core.store.resources = Beside(resources, save_subscription=killing(resources.save_subscription, "before"))
    elif place == "after-intent":
        core.store.resources = Beside(resources, save_subscription=killing(resources.save_subscription, "after"))
    elif place == "after-answer":
        core.transport = Beside(core.transport, send=killing(core.transport.send, "after"))
    elif place == "in-commit":
        name, delay = rest.split(" ")
        call = getattr(resources, name)
        seen = []
        async def second(*args, **kwargs):
            seen.append(name)
            if kwargs.get("expected_version", 0) is None:
                return await call(*args, **kwargs)
            return await killing(call, "during", float(delay))(*args, **kwargs)
        core.store.resources = Beside(resources, **{name: second})
    elif place == "after-commit":
        name = rest
        call = getattr(resources, name)
        async def second(*args, **kwargs):
            if kwargs.get("expected_version", 0) is None:
                return await call(*args, **kwargs)
            return await killing(call, "after")(*args, **kwargs)
        core.store.resources = Beside(resources, **{name: second})
    else:
        assert place in ("after-request", "none"), place  # whoever watches the provider kills

async def main():
    async with opened() as runtime:
        arm(runtime._core)
        say("ready")
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            try:
                if action == "claim":
                    from go_services_core.resources import Subscription
                    connection = await runtime.connection(subject)
                    number = getattr(runtime, "number", 0)
                    runtime.number = number + 1
                    row = Subscription(
                        id=f"{connection.id}-{number}", connection_id=connection.id, provider_id="sandbox",
                        resource_type="items", resource_id="1", channel_id=f"channel-{number}",
                        callback_url="http://127.0.0.1:9/webhooks",
                        created_at=connection.created_at, updated_at=connection.created_at,
                    )
                    done = (await runtime._core.store.resources.save_subscription(row, expected_version=None)).id
                elif action == "renew":
                    done = await runtime.run_due("subscriptions.renew", 1000)
                else:
                    connection_id, kind, resource = subject.split(" ")
                    done = (await runtime.subscribe(
                        connection_id, kind, resource, callback_url="http://127.0.0.1:9/webhooks"
                    )).id
            except Exception as error:
                done = type(error).__name__
            say(json.dumps(done))

asyncio.run(main())
"""
)


def settings_of(app: Any) -> dict[str, Any]:
    """The application's settings, with the provider and its subscriptions declared in them."""
    settings = declared(app)
    spec = app.providers.specs["sandbox"]
    own = settings["providers.sandbox"]
    own["subscriptions"] = [_plain(one) for one in spec.subscriptions]
    own["operations"] += [
        _plain(operation) for operation in spec.operations if operation.id.startswith(("channels.", "subscriptions."))
    ]
    return settings


def _plain(record: Any) -> dict[str, Any]:
    """A record as a table of the configuration: what differs from its defaults."""
    table = {}
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        if field.name == "params":
            table["params"] = [_plain(param) for param in value]
        elif value != field.default and isinstance(value, (str, float, bool, dict)) and field.name != "capability":
            table[field.name] = value
    return table


@asynccontextmanager
async def worker(
    app: Any, action: str, subject: str = "", point: str = "none"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that does ``action`` each time that a line is written to it."""
    async with started(WORKER, settings_of(app), action, subject, point) as process:
        yield process
