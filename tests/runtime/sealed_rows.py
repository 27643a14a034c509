"""A database with every kind of sealed value in it, and whether all of them open."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attrs import evolve

from go_services_core import Runtime, Scope
from go_services_core.clock import uuid7
from go_services_core.endpoints import Endpoint
from go_services_core.errors import SecretError
from go_services_core.model import Connection, Establish, Event, SealedCredential, TokenSet
from go_services_core.resources import Subscription
from go_services_core.runtime import bindings
from go_services_core.runtime.payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION, encode_tokens
from go_services_core.runtime.sealed_values import seal_result, seal_verification
from go_services_core.secret import SecretBytes, SecretStr

KINDS = ("credential", "attempt", "inbox", "idempotency", "subscription", "intent", "endpoint")
TOKEN = SecretStr("verification-of-the-channel")
RESULT = b'{"result-of-the-command": 1}'
LONG_KEY = "k" * 2000


async def fill(app: Any, runtime: Runtime) -> Connection:
    """One value of each kind and more than one of most; gives a connection with two credentials, one superseded."""
    core = runtime._core
    store, now = core.store, core.clock.now()
    connection = await app.connect(runtime, "u1")
    await runtime.refresh(connection.id)
    await app.connect(runtime, "u2")
    await app.begin(runtime, "u3")
    await runtime.accept_webhook("sandbox", app.webhook(b'{"type": "item.created"}'))
    for key in ("short", LONG_KEY):
        begun = await store.once.begin("command", key, digest=b"d", owner="o", seconds=60)
        sealed = await seal_result(core.sealer, SecretBytes(RESULT), kind="command", key=key)
        await store.once.finish("command", key, owner="o", fence=begun.fence, ok=True, result=sealed)
    _, active = await store.connections.load(connection.id)
    assert active is not None
    lease = (await store.connections.open_refresh(connection.id, owner="o", lease=60, intent_id="late")).lease
    binding = bindings.credential(connection.id, active.version + 1, "sandbox", connection.scope)
    sealed = await core.sealer.seal(encode_tokens(TokenSet(access_token=TOKEN)), binding)
    late = evolve(active, id=uuid7(core.clock), version=active.version + 1, sealed=sealed)
    assert await store.connections.keep_late(lease, late)
    await store.connections.drop_refresh(lease)
    id = uuid7(core.clock)
    sealed = await seal_verification(
        core.sealer, TOKEN, subscription_id=id, provider_id="sandbox", scope=connection.scope
    )
    await store.resources.save_subscription(
        Subscription(
            id=id,
            connection_id=connection.id,
            provider_id="sandbox",
            resource_type="item",
            resource_id="7",
            channel_id=id,
            callback_url="https://app.example/hook",
            verification=sealed,
            created_at=now,
            updated_at=now,
        ),
        expected_version=None,
    )
    id = uuid7(core.clock)
    signing = json.dumps([{"secret": TOKEN.reveal(), "until": None}]).encode()
    await store.endpoints.save(
        Endpoint(
            id=id,
            url="https://customer.example",
            scope=connection.scope,
            secrets=await core.sealer.seal(signing, bindings.endpoint(id, connection.scope)),
            created_at=now,
            updated_at=now,
        ),
        expected_version=None,
    )
    return connection


async def sow(runtime: Runtime, count: int, *, scopes: int, first: int = 0) -> None:
    """Store ``count`` connections whose key is ``secret-N``."""
    core = runtime._core
    for number in range(first, first + count):
        now, id = core.clock.now(), uuid7(core.clock)
        scope = Scope("user", f"u{number % scopes}")
        tokens = TokenSet(access_token=SecretStr(f"secret-{number:06d}"))
        sealed = await core.sealer.seal(encode_tokens(tokens), bindings.credential(id, 1, "keyed", scope))
        await core.store.connections.establish(
            Establish(
                connection=Connection(
                    id=id,
                    provider_id="keyed",
                    auth_kind="api_key",
                    scope=scope,
                    external_account_id=f"a{number}",
                    status="active",
                    created_at=now,
                    updated_at=now,
                ),
                credential=SealedCredential(
                    id=uuid7(core.clock),
                    connection_id=id,
                    version=1,
                    sealed=sealed,
                    payload_format=CREDENTIAL_FORMAT,
                    payload_version=CREDENTIAL_VERSION,
                    token_type="bearer",
                    created_at=now,
                ),
                event=Event(
                    id=uuid7(core.clock),
                    name="connection.established",
                    provider_id="keyed",
                    scope=scope,
                    connection_id=id,
                    occurred_at=now,
                ),
            )
        )


async def contents(runtime: Runtime) -> dict[tuple[str, str], str]:
    """A digest of what is sealed in every row; the name of the error where it does not open."""
    core, found = runtime._core, {}
    for kind in KINDS:
        after = None
        while True:
            page = await core.store.sealed.page(kind, after=after, limit=1000)
            for row in page.items:
                try:
                    opened = await core.sealer.open(row.sealed, bindings.binding_of(row))
                except SecretError as error:
                    found[kind, row.id] = type(error).__name__
                else:
                    found[kind, row.id] = hashlib.sha256(opened.reveal()).hexdigest()
            after = page.next
            if after is None:
                break
    return found


async def by_key(runtime: Runtime) -> dict[str, int]:
    """Rows for each key id."""
    counts: dict[str, int] = {}
    for use in await runtime._core.store.sealed.keys():
        counts[use.key.key_id] = counts.get(use.key.key_id, 0) + use.rows
    return counts
