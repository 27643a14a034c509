"""What a SQL store must bring: something that runs units of work against its database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from go_services_core.protocols import Work

from .dialect import Dialect
from .statement import Call, Row, Steps

T = TypeVar("T")


class Joint(ABC, Generic[T]):
    """A unit of work that a driver with a single writer may run as one with others of its class.

    It writes no events, and is submitted as one that is ``alone``.
    """

    @abstractmethod
    def __call__(self) -> Steps[T]:
        """It by itself."""

    @classmethod
    @abstractmethod
    def together(cls, units: Sequence[Self]) -> Steps[Sequence[T | None]]:
        """All of them, with as many statements for many as for two, of which only the last changes anything.

        Gives the answer of each; None where a unit did nothing and is still to be run by itself, after the others.
        """


class Driver(Protocol):
    """Runs units of work. A unit is re-runnable: the driver may start it again after a failure before COMMIT."""

    @property
    def dialect(self) -> Dialect:
        """Whose text it runs."""
        ...

    async def run(self, work: Work[T], *, destroys: bool = False, alone: bool = False) -> T:
        """Run ``work`` in a transaction of its own and answer after it is durable.

        What ``work`` raises undoes all that it did and is raised here. A caller that is cancelled does not cancel a
        unit that was submitted.

        Args:
            work: the unit.
            destroys: it overwrites secrets; the driver removes what the database's files still hold of them.
            alone: at most one of its statements changes anything, and that one is the last: it needs no transaction
                around it.

        Raises:
            Conflict: a constraint of the database refused.
            StoreUnavailable: the database does not answer, is locked or full; nothing was changed.
            CommitUnknown: whether the change is there is not known.
        """
        ...

    async def read(self, work: Work[T], *, scan: bool = False) -> T:
        """Run a ``work`` that changes nothing.

        Args:
            work: the unit.
            scan: it may go through whole tables, so that it must hold up neither the caller's loop nor writers.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        ...


def drive(work: Work[T], execute: Callable[[Call], list[Row]]) -> T:
    """Run one unit to its end. Database errors are raised here, never thrown into the unit."""
    unit: Generator[Any, Any, T] = work()
    try:
        call = next(unit)
        while True:
            call = unit.send(execute(call))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        unit.close()
