"""Calls with a connection."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ...call_specs import RetryPolicy
from ...http import BodySource, HttpRequest
from ...model import Decision, OperationResult
from ...secret import SecretStr
from ...sources import TransferProgress
from .. import capabilities as _capabilities
from .. import operations as _operations
from .. import paging as _paging
from .. import streams as _streams
from .. import transfers as _transfers
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

    def stream(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """The items of a stream as they come, at most ``limit``: values of NDJSON, ``SseEvent`` records, or lines.

        No more is read than is taken: a slow taker holds the sender back. It has no deadline as a whole; leaving it
        hangs up.

        Raises:
            BadInput: the operation is not a stream.
            ResponseInvalid: the answer is not of the stream's format; BodyTooLarge: a line or event is over the limit.
            TransportError: the stream was cut, and its record does not say to open it again.
            ServicesError: whatever ``execute`` raises before an answer.
        """
        return _streams.stream(self._core, connection_id, operation, params, limit=limit)

    async def upload(
        self,
        connection_id: str,
        operation: str,
        source: os.PathLike[str] | bytes | BodySource,
        params: Mapping[str, Any] | None = None,
        *,
        content_type: str | None = None,
        filename: str | None = None,
        progress: TransferProgress | None = None,
        resume: SecretStr | None = None,
        idempotency_key: str | None = None,
        deadline: float | None = None,
    ) -> OperationResult:
        """Send a file.

        Args:
            connection_id, operation, params, idempotency_key, deadline: as for ``execute``.
            source: a file's path, bytes, or what can be opened again for each attempt; read while it is sent.
            content_type: of the file; ``application/octet-stream`` where nothing is said.
            filename: for providers that take one; a path's own by default.
            progress: called on the loop with the bytes sent and those in all; what it raises is logged.
            resume: the ``resume`` of the error that an earlier upload of the same file ended with. It also holds in
                another process.

        Raises:
            BadInput: the operation is no upload, the source cannot be read, or the token is another call's.
            ServicesError: whatever ``execute`` raises; ``resume`` has a token where the provider keeps what it has.
        """
        return await _transfers.upload(
            self._core,
            connection_id,
            operation,
            source,
            params,
            content_type=content_type,
            filename=filename,
            progress=progress,
            resume=resume,
            idempotency_key=idempotency_key,
            deadline=deadline,
        )

    async def download(
        self,
        connection_id: str,
        operation: str,
        target: os.PathLike[str],
        params: Mapping[str, Any] | None = None,
        *,
        progress: TransferProgress | None = None,
        resume: SecretStr | None = None,
        deadline: float | None = None,
    ) -> OperationResult:
        """Fetch a file to ``target``, which appears there complete or not at all, readable by this user only.

        The bytes go to a hidden file beside it first. One that was there is replaced. ``data`` of the result has
        ``size``, ``content_type`` and ``etag``.

        Args:
            connection_id, operation, params, deadline: as for ``execute``.
            target: where it goes; its folder must exist.
            progress: called on the loop with the bytes received and those in all, or None where that is not known;
                what it raises is logged.
            resume: the ``resume`` of the error that an earlier download to the same target ended with. It also holds in
                another process; without it the partial file of that download stays.

        Raises:
            BadInput: the operation is no download, the target cannot be written, or the token is another call's.
            ServicesError: whatever ``execute`` raises; ``resume`` has a token where a later call can go on.
        """
        return await _transfers.download(
            self._core, connection_id, operation, target, params, progress=progress, resume=resume, deadline=deadline
        )

    async def resume(
        self, connection_id: str, operation: str, token: SecretStr, *, deadline: float | None = None
    ) -> OperationResult:
        """Go on with a call that ended before the provider's job did; ``token`` is the ``resume`` of its error.

        Raises:
            BadInput: the token is another connection's or operation's, or the operation has nothing to go on with.
            JobFailed: the job ended without a result.
            ServicesError: whatever ``execute`` raises.
        """
        return await _transfers.resume(self._core, connection_id, operation, token, deadline=deadline)

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
