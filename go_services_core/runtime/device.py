"""Connecting by a consent on another device: durable steps that any worker may take, and a call that takes them all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from attrs import evolve

from ..clock import uuid7
from ..errors import (
    AuthorizationPending,
    BadInput,
    ProviderUnavailable,
    RateLimited,
    TokenEndpointError,
    TransportError,
)
from ..model import Connection, DeviceStart, Scope, TokenSet
from ..protocols import AuthStart
from ..secret import SecretStr
from . import attempts
from .connect import asked, establish_tokens
from .core import Core
from .settings_secrets import drive

SHORTEST_WAIT = 5.0
"""Seconds between two questions where the flow does not say."""
LONGEST_WAIT = 300.0
"""Seconds between two questions, at most."""
NEXT_QUESTION: Final = "runtime.next_question"
"""What an attempt remembers of the pace: when the provider may be asked again."""


async def begin_device(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    grants: Iterable[str],
    auth: str | None,
    connection_id: str | None,
) -> DeviceStart:
    """Begin a consent on another device; see ``Runtime.begin_device``."""
    instance, record, requested = await asked(
        core, provider_id, scope=scope, grants=grants, auth=auth, connection_id=connection_id
    )
    flow = core.flow(record.kind)
    if not getattr(flow, "polls", False):
        raise BadInput(
            f"The kind {record.kind} of provider {instance.id} is not consented to on another device.",
            hint="Use Runtime.connect and Runtime.complete." if flow.interactive else "Use Runtime.establish.",
            field="auth",
        )
    ctx = core.auth_context(instance, record, scope, requested=requested)
    start: AuthStart = await drive(core, instance, partial(flow.begin, ctx))
    now, interval = core.clock.now(), start.interval or SHORTEST_WAIT
    attempt_id, binding = uuid7(core.clock), attempts.random_text(core)
    attempt = await attempts.begin(
        core,
        instance,
        record,
        scope,
        attempt_id=attempt_id,
        state_hash=_key(attempt_id),
        binding=binding,
        requested=requested,
        memory={"interval": SecretStr(f"{interval:g}"), **start.memory, **_after(now, interval)},
        expires_at=start.expires_at or now + timedelta(seconds=core.settings.attempt_lifetime),
        connection_id=connection_id,
    )
    return DeviceStart(
        url=start.url,
        verification_uri=start.verification_uri or start.url,
        user_code=start.user_code or "",
        attempt_id=attempt.id,
        binding=binding,
        interval=interval,
        expires_at=attempt.expires_at,
    )


async def poll_device(core: Core, attempt_id: str, binding: SecretStr | str) -> Connection:
    """Ask the provider once; see ``Runtime.poll_device``."""
    facet, now = core.store.connections, core.clock.now()
    hashes = _key(attempt_id), attempts.digest(binding)
    attempt = await facet.read_attempt(*hashes, now=now)
    instance, record, memory = await attempts.recall(core, attempt)
    interval = float(memory["interval"].reveal())
    early = (datetime.fromisoformat(memory[NEXT_QUESTION].reveal()) - now).total_seconds()
    if early > 0:
        raise AuthorizationPending(retry_after=early)
    memory |= _after(now, interval)
    mine = await attempts.seal(core, attempt.id, instance, attempt.scope, memory)
    if not await facet.revise_attempt(attempt, mine):
        raise AuthorizationPending(retry_after=interval)  # another worker asks at this moment
    ctx = core.auth_context(instance, record, attempt.scope, requested=attempt.requested, memory=memory)
    try:
        tokens: TokenSet = await drive(core, instance, partial(core.flow(record.kind).complete, ctx, {}))
    except AuthorizationPending as pending:
        if pending.retry_after != interval:  # RFC 8628 §3.5: slower from now on, whoever asks
            memory |= {"interval": SecretStr(f"{pending.retry_after:g}"), **_after(now, pending.retry_after)}
            slower = await attempts.seal(core, attempt.id, instance, attempt.scope, memory)
            await facet.revise_attempt(evolve(attempt, sealed=mine), slower)
        raise
    except TokenEndpointError:
        await facet.read_attempt(*hashes, now=now)  # StateUsed where another worker got the tokens meanwhile
        raise
    # The time of the question counts: tokens that came are not lost to the attempt's end a moment later.
    await facet.consume_attempt(*hashes, now=now)
    return await establish_tokens(
        core, instance, record, attempt.scope, attempt.requested, tokens, attempt.connection_id
    )


async def connect_device(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    show: Callable[[DeviceStart], Any],
    grants: Iterable[str],
    auth: str | None,
    connection_id: str | None,
) -> Connection:
    """Connect by a consent on another device; see ``Runtime.connect_device``."""
    start = await begin_device(core, provider_id, scope=scope, grants=grants, auth=auth, connection_id=connection_id)
    show(start)
    wait = start.interval
    while True:
        await core.clock.sleep(wait)
        try:
            return await poll_device(core, start.attempt_id, start.binding)
        except AuthorizationPending as pending:
            wait = pending.retry_after
        except (TransportError, RateLimited, ProviderUnavailable) as failed:
            if not failed.retryable:
                raise
            asked_to = getattr(failed, "retry_after", None) or 0.0
            wait = min(max(2 * wait, asked_to), LONGEST_WAIT)  # RFC 8628 §3.5: back off where there is no answer


def _key(attempt_id: str) -> bytes:
    """Under what the attempt stands in place of a state: nothing that a callback's state could hash to."""
    return hashlib.blake2b(attempt_id.encode("utf-8", "surrogatepass"), digest_size=32, person=b"device").digest()


def _after(now: datetime, seconds: float) -> dict[str, SecretStr]:
    return {NEXT_QUESTION: SecretStr((now + timedelta(seconds=seconds)).isoformat())}
