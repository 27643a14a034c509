"""The blocking face's lists, batches and capabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve

from .call_specs import RetryPolicy
from .calls import CallOutcome, Invocation, ItemPage, OperationRequest
from .errors import ServicesError
from .model import Decision, Scope
from .runtime.batch import check_concurrency, stops
from .runtime.runtime import Runtime

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
