"""Records of calls beyond a single operation: pages of a list, the calls of a batch, the use of a capability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from .call_specs import RetryPolicy
from .model import Decision, OperationResult, Resolution


@frozen(kw_only=True)
class ItemPage:
    """One page of a list of the provider."""

    items: tuple[Any, ...] = field(repr=False)
    resume: str | None = field(repr=False)
    """Where the list goes on after these items; None at its end. Text without a meaning of its own."""
    number: int
    """Counted from 1, since the list was begun or resumed."""
    request_id: str | None = None
    attempts: int = 1


@frozen(kw_only=True)
class OperationRequest:
    """One call of a batch: the arguments of ``Runtime.execute``."""

    connection_id: str
    operation: str | None = None
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    method: str | None = None
    path: str | None = None
    body: Any = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    deadline: float | None = None
    retry: RetryPolicy | None = None
    background: bool = False


@frozen(kw_only=True)
class CallOutcome:
    """How one call of a batch ended: with ``result`` or with ``error``."""

    index: int
    """Of the call in the batch, counted from 0."""
    result: OperationResult | None = None
    error: Exception | None = None
    """A ``ServicesError``, unless a plugin's classifier gave one of its own."""

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None

    def unwrap(self) -> OperationResult:
        """The result.

        Raises:
            Exception: the error, where there is one.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("an outcome without a result and without an error")
        return self.result


@frozen(kw_only=True)
class Invocation:
    """A capability that was used: how far it was permitted, and what came of it."""

    decision: Decision
    resolution: Resolution
    operation: str
    """The operation's id."""
    result: OperationResult
