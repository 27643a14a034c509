"""Calls with a connection."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

from ...call_specs import RetryPolicy
from ...calls import CallOutcome, Invocation, ItemPage, OperationRequest
from ...errors import ServicesError
from ...http import BodySource, HttpRequest
from ...model import Decision, OperationResult, Scope
from ...secret import SecretStr
from ...sources import TransferProgress
from .. import batch as _batch
from .. import capabilities as _capabilities
from .. import invoke as _invoke
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
        operation: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        method: str | None = None,
        path: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        background: bool = False,
    ) -> OperationResult:
        """Call one of the provider's operations, or with ``method`` and ``path`` an endpoint that has none.

        An endpoint is called under the same rules: it is retried by its method, takes one unit of the budget, and where
        an operation describes it after all, it takes that one's capability, cost and rules. Its answer is JSON, text or
        bytes by its content type.

        Args:
            connection_id: the connection to call with.
            operation: the operation's id, e.g. ``repos.list``.
            params: its parameters by name; of an endpoint the values of its path's placeholders and the query.
            method: of an endpoint, e.g. ``GET``.
            path: of an endpoint, below the API's base URL and without a query, e.g. ``/repos/{owner}/{repo}/branches``.
                Values belong into ``params``: they are encoded, and observers see the path as it is given here.
            body: of an endpoint: a dict or list is sent as JSON, text and bytes as they are.
            headers: further ones of an endpoint.
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
            ResponseInvalid: the answer is not JSON, or lacks what the operation's ``result`` names.
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
            method=method,
            path=path,
            body=body,
            headers=headers,
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
        max_pages: int | None = None,
        resume: str | None = None,
        deadline: float | None = None,
        background: bool = False,
    ) -> AsyncIterator[Any]:
        """The items of a list operation, page after page.

        Each page is a call of its own, made when its first item is asked for; only one page is held.

        Args:
            connection_id: the connection to call with.
            operation: the operation's id.
            params: its parameters by name.
            limit: items at most.
            max_pages: calls at most.
            resume: a token of :meth:`pages`: the list goes on where that page ended.
            deadline: seconds for each page.
            background: lets interactive calls go first where the rate budget is short.

        Raises:
            BadInput: the operation is not a list, or ``resume`` belongs to another call.
            EgressDenied: the next page is on a host that is not the provider's.
            ResponseInvalid: there is no list in the answer, or the provider names a page twice.
            ServicesError: whatever ``execute`` raises.
        """
        return _paging.paginate(
            self._core,
            connection_id,
            operation,
            params,
            limit=limit,
            max_pages=max_pages,
            resume=resume,
            deadline=deadline,
            background=background,
        )

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

    def pages(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        max_pages: int | None = None,
        resume: str | None = None,
        deadline: float | None = None,
        background: bool = False,
    ) -> AsyncIterator[ItemPage]:
        """The same a page at a time, each with the token that resumes the list after it.

        A token is sealed and good for the same connection, operation and parameters, in any process with the same
        database and key. It lives as long as its key and what the provider's cursor allows. Arguments and errors are
        those of :meth:`paginate`.

        Raises:
            SecretError: a token cannot be sealed or opened now.
        """
        return _paging.pages(
            self._core,
            connection_id,
            operation,
            params,
            limit=limit,
            max_pages=max_pages,
            resume=resume,
            deadline=deadline,
            background=background,
        )

    def batch(
        self,
        calls: Iterable[OperationRequest] | AsyncIterable[OperationRequest],
        *,
        concurrency: int = 8,
        stop_on: type[ServicesError] | tuple[type[ServicesError], ...] | None = None,
    ) -> AsyncIterator[CallOutcome]:
        """The outcomes of many calls, in their order, ``concurrency`` of them at once.

        Calls are taken from ``calls`` as they are needed: never more than ``concurrency`` beyond the outcome that was
        asked for. A call that fails is an outcome like another. Closing the iterator cancels what runs.

        Args:
            calls: what to call.
            concurrency: calls that run at once, or ended and wait for an earlier one.
            stop_on: errors after which no further call begins; those under way end, and their outcomes are given.

        Raises:
            BadInput: ``concurrency`` is below 1.
            Exception: what ``calls`` raises, after the outcomes of the calls before.
        """
        return _batch.batch(self._core, calls, concurrency=concurrency, stop_on=stop_on)

    async def can_invoke(
        self, capability: str, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()
    ) -> Decision:
        """What :meth:`invoke` would be permitted, without calling.

        Where no connection serves the scope, or several do, the answer is no, with the reason.

        Raises:
            ProviderNotFound, CapabilityUnsupported: there is no such provider or capability.
            ReauthRequired: the connection that serves has no credential.
        """
        return await _invoke.can_invoke(self._core, capability, provider_id, scope, parents=parents)

    async def invoke(
        self,
        capability: str,
        provider_id: str,
        scope: Scope,
        *,
        operation: str | None = None,
        params: Mapping[str, Any] | None = None,
        parents: Iterable[Scope] = (),
        idempotency_key: str | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        background: bool = False,
    ) -> Invocation:
        """Use a capability with the connection that serves ``scope``; what is not allowed is not sent.

        Args:
            capability: its name, e.g. ``issues.write``.
            provider_id: the configured provider.
            scope: whom the call is for.
            operation: the id of one of the capability's operations; it may be left out where there is only one.
            params: the operation's parameters by name.
            parents: organisations whose connections the scope may inherit, the nearest first; see :meth:`resolve`.
            idempotency_key, deadline, retry, background: as in :meth:`execute`.

        Returns:
            The result, and the decision: its ``mode`` is ``degraded`` where optional grants are missing.

        Raises:
            ConnectionNotFound, ConnectionAmbiguous: no connection serves the scope, or several do.
            PermissionDenied: required grants are missing; nothing was sent.
            BadInput: the operation is not one of the capability.
            ServicesError: whatever :meth:`execute` raises.
        """
        return await _invoke.invoke(
            self._core,
            capability,
            provider_id,
            scope,
            operation=operation,
            params=params,
            parents=parents,
            idempotency_key=idempotency_key,
            deadline=deadline,
            retry=retry,
            background=background,
        )
