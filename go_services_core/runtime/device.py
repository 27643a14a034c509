"""Connecting by a consent on another device: this process asks the provider again until there is an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..errors import AuthorizationPending, BadInput, ProviderUnavailable, RateLimited, TransportError
from ..model import Connection, DevicePrompt, Scope, TokenSet
from ..protocols import AuthStart
from ..secret import SecretStr
from .connect import asked, establish_tokens
from .core import Core
from .settings_secrets import drive

SHORTEST_WAIT = 5.0
"""Seconds between two questions where the flow does not say."""
LONGEST_WAIT = 300.0
"""Seconds between two questions, at most."""


async def connect_device(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    show: Callable[[DevicePrompt], Any],
    grants: Iterable[str],
    auth: str | None,
    connection_id: str | None,
) -> Connection:
    """Connect by a consent on another device; see ``Runtime.connect_device``."""
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
    show(
        DevicePrompt(
            url=start.url, verification_uri=start.verification_uri or start.url, user_code=start.user_code or ""
        )
    )
    memory, wait = dict(start.memory), start.interval or SHORTEST_WAIT
    while True:
        await core.clock.sleep(wait)
        ctx = core.auth_context(instance, record, scope, requested=requested, memory=memory)
        try:
            tokens: TokenSet = await drive(core, instance, partial(flow.complete, ctx, {}))
        except AuthorizationPending as pending:
            wait = pending.retry_after
            memory["interval"] = SecretStr(f"{wait:g}")
        except (TransportError, RateLimited, ProviderUnavailable) as failed:
            if not failed.retryable:
                raise
            asked_to = getattr(failed, "retry_after", None) or 0.0
            wait = min(max(2 * wait, asked_to), LONGEST_WAIT)  # RFC 8628 §3.5: back off where there is no answer
        else:
            return await establish_tokens(core, instance, record, scope, requested, tokens, connection_id)
