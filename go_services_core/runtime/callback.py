"""The callback: taking an attempt, once, and finishing its consent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from ..errors import DuplicateParameter, RedirectMismatch, ServicesError, StateUnknown
from ..model import Attempt, CallbackResult, Connection, TokenSet
from ..secret import SecretStr
from . import attempts
from .callback_url import arrived_there
from .connect import establish_tokens
from .core import Core
from .settings_secrets import drive

_SHOWN: Final = frozenset({"error", "error_description", "error_uri", "iss", "scope"})
"""Parameters that are no secrets: an error that tells them, as it must, is not to be masked for it."""
CallbackParams: TypeAlias = str | Mapping[str, str | SecretStr] | Iterable[tuple[str, str | SecretStr]]
"""A callback's query string, or its parameters."""


async def callback(
    core: Core,
    params: CallbackParams,
    *,
    binding: SecretStr | str,
    redirect_uri: str | None,
) -> CallbackResult:
    """Finish a consent; see ``Runtime.callback``."""
    params, binding = received(params, binding)  # in place of what was given, or a traceback with locals shows it
    fields = _single(params)
    state = fields.get("state")
    if not state:
        raise StateUnknown("The callback has no state.", field="state")
    if redirect_uri is None and core.settings.require_redirect_uri:
        raise RedirectMismatch(
            "It was not said where the callback arrived, and runtime.require_redirect_uri asks for it.",
            hint="Pass redirect_uri: the URL that was called, without its parameters.",
            field="redirect_uri",
        )
    facet, now = core.store.connections, core.clock.now()
    hashes = attempts.digest(state), attempts.digest(binding)
    if redirect_uri is not None:
        # Of its own and before the attempt is taken: its redirect URI never changes, and a callback at another URL,
        # whether forged or misrouted, shall not use up the consent.
        waiting = await facet.read_attempt(*hashes, now=now)
        if not arrived_there(waiting.redirect_uri, redirect_uri):
            raise RedirectMismatch(
                f"The callback arrived at another URL than {waiting.redirect_uri}, for which the consent was begun.",
                hint="Is the public URL of the application known to it, behind its proxy?",
                field="redirect_uri",
                metadata=_return_to(waiting),
            )
    attempt = await facet.consume_attempt(*hashes, now=now)
    try:
        connection = await _finish(core, attempt, state, fields)
    except ServicesError as error:
        error.metadata.update(_return_to(attempt))
        raise
    return CallbackResult(connection=connection, return_to=attempt.return_to)


async def _finish(core: Core, attempt: Attempt, state: SecretStr, fields: Mapping[str, SecretStr]) -> Connection:
    instance, record, memory = await attempts.recall(core, attempt)
    ctx = core.auth_context(
        instance,
        record,
        attempt.scope,
        redirect_uri=attempt.redirect_uri,
        state=state,
        requested=attempt.requested,
        memory=memory,
    )
    tokens: TokenSet = await drive(core, instance, lambda: core.flow(record.kind).complete(ctx, fields))
    return await establish_tokens(
        core, instance, record, attempt.scope, attempt.requested, tokens, attempt.connection_id
    )


def _return_to(attempt: Attempt) -> dict[str, str]:
    return {} if attempt.return_to is None else {"return_to": attempt.return_to}


def received(params: CallbackParams, binding: SecretStr | str) -> tuple[tuple[tuple[str, SecretStr], ...], SecretStr]:
    """The callback's parameters and the binding, all as secrets."""
    pairs: Iterable[tuple[str, str | SecretStr]]
    if isinstance(params, str):
        whole = params.startswith(("http://", "https://", "/", "?"))  # a "?" inside a query is part of a value
        pairs = parse_qsl(params.partition("?")[2] if whole else params, keep_blank_values=True)
    else:
        pairs = params.items() if isinstance(params, Mapping) else params
    secrets = tuple(
        (name, SecretStr(value, name=name in _SHOWN) if isinstance(value, str) else value) for name, value in pairs
    )
    return secrets, SecretStr(binding) if isinstance(binding, str) else binding


def _single(pairs: tuple[tuple[str, SecretStr], ...]) -> dict[str, SecretStr]:
    """The parameters by name; one that occurs twice is refused (RFC 6749 §3.1)."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = sorted({name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1})
        raise DuplicateParameter(f"The callback has more than one {twice[0]!r}.", field=twice[0])
    return fields
