"""The blocking face's calls of providers."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve

from .call_specs import RetryPolicy
from .calls import CallOutcome, Invocation, ItemPage, OperationRequest
from .errors import ServicesError
from .http import BodySource, HttpRequest
from .model import Decision, OperationResult, Scope
from .runtime.batch import check_concurrency, stops
from .runtime.runtime import Runtime
from .secret import SecretStr
from .sources import TransferProgress

if TYPE_CHECKING:
    from .blocking import _Loop

T = TypeVar("T")
_DONE: Any = object()


class BlockingCalls:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _in_use(self) -> AbstractContextManager[_Loop]: ...

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

        def _reaches(self, loop: _Loop) -> bool: ...

    def execute(
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
        return self._run(
            Runtime.execute,
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

    def stream(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[Any]:
        return self._each(lambda runtime: runtime.stream(connection_id, operation, params, limit=limit))

    def upload(
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
        return self._run(
            Runtime.upload,
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

    def download(
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
        return self._run(
            Runtime.download,
            connection_id,
            operation,
            target,
            params,
            progress=progress,
            resume=resume,
            deadline=deadline,
        )

    def resume(
        self, connection_id: str, operation: str, token: SecretStr, *, deadline: float | None = None
    ) -> OperationResult:
        return self._run(Runtime.resume, connection_id, operation, token, deadline=deadline)

    def token(self, connection_id: str) -> SecretStr:
        return self._run(Runtime.token, connection_id)

    def sign(self, connection_id: str, request: HttpRequest, *, nonce: str | None = None) -> HttpRequest:
        return self._run(Runtime.sign, connection_id, request, nonce=nonce)

    def can(self, connection_id: str, capability: str) -> Decision:
        return self._run(Runtime.can, connection_id, capability)

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
    ) -> Iterator[Any]:
        return self._each(
            lambda runtime: runtime.paginate(
                connection_id,
                operation,
                params,
                limit=limit,
                max_pages=max_pages,
                resume=resume,
                deadline=deadline,
                background=background,
            )
        )

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
    ) -> Iterator[ItemPage]:
        return self._each(
            lambda runtime: runtime.pages(
                connection_id,
                operation,
                params,
                limit=limit,
                max_pages=max_pages,
                resume=resume,
                deadline=deadline,
                background=background,
            )
        )

    def batch(
        self,
        calls: Iterable[OperationRequest],
        *,
        concurrency: int = 8,
        stop_on: type[ServicesError] | tuple[type[ServicesError], ...] | None = None,
    ) -> Iterator[CallOutcome]:
        """Each ``concurrency`` calls run together. ``calls`` is read in the caller's thread, as a database wants it."""
        check_concurrency(concurrency)
        source = iter(calls)
        before = 0
        while group := list(islice(source, concurrency)):
            outcomes = self._run(_together, group, concurrency)
            for outcome in outcomes:
                yield evolve(outcome, index=before + outcome.index)
            if any(stops(outcome, stop_on) for outcome in outcomes):
                return
            before += len(group)

    def can_invoke(self, capability: str, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Decision:
        return self._run(Runtime.can_invoke, capability, provider_id, scope, parents=parents)

    def invoke(
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
        return self._run(
            Runtime.invoke,
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

    def _each(self, begin: Callable[[Runtime], AsyncIterator[T]]) -> Iterator[T]:
        with self._in_use() as first:
            items = begin(first.runtime)

        async def advance() -> Any:
            return await anext(items, _DONE)

        async def close() -> None:
            if isinstance(items, AsyncGenerator):
                await items.aclose()

        try:
            while True:
                with self._in_use() as loop:
                    if loop is not first:
                        raise RuntimeError("the process was forked while this list was read; read it again")
                    item = loop.run(advance())
                if item is _DONE:
                    return
                yield item
        finally:
            # A list that was left before its end; one that is dropped on a loop's thread is closed by that loop.
            if self._reaches(first):
                with self._in_use() as loop:
                    if loop is first:
                        loop.run(close())


async def _together(runtime: Runtime, calls: list[OperationRequest], concurrency: int) -> list[CallOutcome]:
    return [outcome async for outcome in runtime.batch(calls, concurrency=concurrency)]
