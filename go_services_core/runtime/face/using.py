"""Calls with a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from ...call_specs import RetryPolicy
from ...http import HttpRequest
from ...model import Decision, OperationResult
from ...secret import SecretStr
from .. import capabilities as _capabilities
from .. import operations as _operations
from .. import paging as _paging
from ..core import Core


class Using:
    """Operations, tokens and signatures."""

    _core: Core

    async def execute(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        background: bool = False,
    ) -> OperationResult:
        """Call one of the provider's operations.

        Args:
            connection_id: the connection to call with.
            operation: the operation's id, e.g. ``repos.list``.
            params: its parameters by name.
            idempotency_key: makes the call once: the same key again gives the recorded result, and nothing is sent. It
                belongs to this connection and operation, and is sent where the provider honours one.
            deadline: seconds for everything, renewal, repetitions and waits included; ``[runtime] call_deadline`` by
                default.
            retry: instead of the operation's or the provider's own.
            background: lets interactive calls go first where the rate budget is short.

        Raises:
            ConnectionNotFound, OperationNotFound, UnknownParameter, BadInput: the call is wrong; nothing was sent.
            ReauthRequired: the connection is not active; ReconsentRequired where a consent is due.
            PermissionDenied: the connection lacks grants; nothing was sent.
            ProviderUnauthorized, ProviderForbidden, ProviderNotFoundAnswer, RateLimited, ProviderUnavailable,
            ProviderError: the provider's answer, with its status, code, request id and a scrubbed excerpt.
            ResponseInvalid: the answer is not JSON.
            IdempotencyMismatch: the key was used with other parameters; nothing was sent.
            OperationRunning: a call with this key is under way; nothing was sent.
            ResultNotKept: a call with this key was carried out, and its result was too large to keep; nothing was sent.
            OutcomeUnknown: there was no answer to this call or an earlier one with its key; whether it was done is not
                known, and repeating it could do it twice.
            CircuitOpen: the host failed too often lately; nothing was sent.
            TransportError: there was no answer.
        """
        return await _operations.execute(
            self._core,
            connection_id,
            operation,
            params,
            idempotency_key=idempotency_key,
            deadline=deadline,
            retry=retry,
            background=background,
        )

    def paginate(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """The items of a list operation, page after page, at most ``limit`` of them.

        Raises:
            BadInput: the operation is not a list.
            EgressDenied: the next page is on a host that is not the provider's.
            ServicesError: whatever ``execute`` raises.
        """
        return _paging.paginate(self._core, connection_id, operation, params, limit=limit)

    async def token(self, connection_id: str) -> SecretStr:
        """An access token that is valid now, for people who use a vendor's SDK."""
        return await _operations.token(self._core, connection_id)

    async def sign(self, connection_id: str, request: HttpRequest, *, nonce: str | None = None) -> HttpRequest:
        """A signed copy of ``request``, to be sent once; ``nonce`` is the ``DPoP-Nonce`` of an answer that wants one.

        Raises:
            EgressDenied: the request's host is not one of the provider's.
            BadInput: ``nonce`` cannot be one, or the connection's token is not bound to a key.
        """
        return await _operations.sign(self._core, connection_id, request, nonce=nonce)

    async def can(self, connection_id: str, capability: str) -> Decision:
        """Whether the connection may use a capability, without calling.

        Raises:
            CapabilityUnsupported: the provider has no such capability.
        """
        return await _capabilities.can(self._core, connection_id, capability)
