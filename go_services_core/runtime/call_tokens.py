"""Tokens with which a call goes on that had got somewhere."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from ..errors import BadInput, ServicesError
from ..secret import SecretStr
from .call import Call

_VERSION = 1


def with_token(call: Call, error: ServicesError) -> ServicesError:
    """``error``, with a token in ``resume`` where the call had a checkpoint."""
    checkpoint = call.checkpoint
    if checkpoint is not None:
        error.resume = token_of(call, checkpoint.resume)
        error.metadata.update(checkpoint.metadata)
    return error


def token_of(call: Call, state: Mapping[str, Any]) -> SecretStr:
    """A token for ``state``; a secret, since some providers take an upload from whoever knows its address."""
    held = {"v": _VERSION, "c": call.loaded.connection.id, "o": call.operation.id, "s": dict(state)}
    return SecretStr(
        urlsafe_b64encode(json.dumps(held, separators=(",", ":"), default=str).encode()).decode().rstrip("=")
    )


def state_of(token: SecretStr, *, connection_id: str, operation_id: str) -> Mapping[str, Any]:
    """What ``token`` holds.

    Raises:
        BadInput: it is none, or another connection's or operation's.
    """
    text = token.reveal()
    held: Any = None
    try:
        held = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        fits = held["v"] == _VERSION and isinstance(held["s"], dict)
        whose = (held["c"], held["o"])
    except (ValueError, TypeError, KeyError, RecursionError):
        fits, whose = False, ("", "")
    if not fits:
        raise BadInput("The resume token cannot be read.", field="resume") from None
    if whose != (connection_id, operation_id):
        raise BadInput("The resume token is another connection's or operation's.", field="resume")
    state: Mapping[str, Any] = held["s"]
    return state
