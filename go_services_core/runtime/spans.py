"""One piece of work, from its start to its end, as observers and the log are told of it."""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from attrs import evolve

from ..errors import ServicesError, failure_code
from ..model import Connection, Observation, Scope
from .log_lines import logger_of, severity

if TYPE_CHECKING:
    from ..http import Headers
    from .core import Core

_numbers = count(1)
_current: ContextVar[int | None] = ContextVar("go_services_span", default=None)
"""The work that runs here: what begins meanwhile, also in tasks that it starts, is a part of it."""


class Span:
    """Observes what is done in its ``with`` block; what that raises is how it ended.

    Where nobody watches, and the log does not want it, no observation is made.
    """

    __slots__ = (
        "_began", "_core", "_error", "_outer", "_tracers",
        "connection_id", "detail", "headers", "name", "number", "provider_id", "scope", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        name: str,
        *,
        provider_id: str | None = None,
        connection_id: str | None = None,
        scope: Scope | None = None,
        tracers: bool = False,
        **detail: Any,
    ) -> None:
        """``tracers`` tells tracers only, and no log: for what is of use to nobody else."""
        self.name = name
        self.provider_id = provider_id
        self.connection_id = connection_id
        self.scope = scope
        self.detail: dict[str, Any] = detail
        self.headers: Headers = ()
        """What distributed traces send with it."""
        self.number: int | None = None
        self.trace_id: str | None = None
        self._core = core
        self._tracers = tracers
        self._error: BaseException | None = None
        self._outer: int | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        core = self._core
        if core.observers:
            self.number = next(_numbers)
            self._outer = _current.get()
            _current.set(self.number)
            self._tell("start")
            if core.observers.tracers:
                for trace in core.observers.traces(self.number):
                    self.trace_id = self.trace_id or trace.trace_id
                    self.headers += trace.headers
        self._began = core.clock.monotonic()
        return self

    def about(self, connection: Connection) -> None:
        """Say whose work it turned out to be."""
        self.provider_id = connection.provider_id
        self.connection_id = connection.id
        self.scope = connection.scope

    def failed(self, error: BaseException) -> None:
        """It ends with ``error``, which is not raised."""
        self._error = error

    def again(self, error: BaseException, delay: float) -> None:
        """Tell that it fails with ``error``, and that another attempt follows after ``delay`` seconds."""
        whose: dict[str, Any] = {
            "provider_id": self.provider_id,
            "connection_id": self.connection_id,
            "scope": self.scope,
        }
        retrying(self._core, self.name, error, delay, **whose, **self.detail)

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        core = self._core
        error = raised or self._error
        duration = (core.clock.monotonic() - self._began) * 1000
        watched = self.number is not None
        if watched:
            _current.set(self._outer)
        if watched or core.observers or (not self._tracers and logger_of(self.name).isEnabledFor(severity(error))):
            self._tell("end", error, duration)

    def _tell(
        self, phase: Literal["start", "end"], error: BaseException | None = None, duration: float | None = None
    ) -> None:
        core = self._core
        observation = Observation(
            name=self.name,
            at=core.clock.now(),
            phase=phase,
            ok=error is None,
            duration_ms=duration,
            provider_id=self.provider_id,
            connection_id=self.connection_id,
            scope=self.scope,
            span=self.number,
            parent=self._outer,
            trace_id=self.trace_id,
            detail=self.detail if phase == "end" else dict(self.detail),  # to which the end adds
        )
        if error is not None:
            observation = evolve(observation, **failure(error))
        if self._tracers:
            core.observers.tell_tracers(observation)
        else:
            core.observe(observation, error)


def retrying(
    core: Core,
    name: str,
    error: BaseException,
    delay: float,
    *,
    provider_id: str | None = None,
    connection_id: str | None = None,
    scope: Scope | None = None,
    **detail: Any,
) -> None:
    """Tell that the work that runs here failed with ``error``, and that another attempt follows after ``delay`` s."""
    if core.observers:
        core.observe(
            Observation(
                name=name,
                at=core.clock.now(),
                phase="retry",
                ok=False,
                provider_id=provider_id,
                connection_id=connection_id,
                scope=scope,
                span=current_span(),
                detail={**detail, "delay": delay},
                **failure(error),
            )
        )


def failure(error: BaseException | None) -> dict[str, Any]:
    """What an observation says of ``error``; a foreign exception may quote a secret, and only its name is said."""
    if error is None:
        return {}
    if not isinstance(error, ServicesError):
        return {"error": type(error).__name__, "error_code": failure_code(error)}
    return {
        "error": error.message,
        "error_code": error.code,
        "error_category": error.category,
        "error_status": error.status,
    }


def current_span() -> int | None:
    """Number of the work that runs here, if any observer follows it."""
    return _current.get()
