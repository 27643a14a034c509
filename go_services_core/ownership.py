"""What the owner of a provider decides for it: the objects behind the ownership hooks, such as ``gs_callback_url``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from attrs import frozen

from .http import HttpResponse
from .model import Connection, Scope

if TYPE_CHECKING:
    from .call_specs import RateBudget
    from .rate_limits import RateFact
    from .specs import Operation


@frozen(kw_only=True)
class CallbackRequest:
    """Who is about to consent, and to what."""

    provider_id: str
    scope: Scope
    connection_id: str | None = None
    """The connection that is consented to again; None for a new one."""
    requested: tuple[str, ...] = ()
    """The grants that will be asked for."""

    @property
    def reconsent(self) -> bool:
        """Whether it is a consent that is given again."""
        return self.connection_id is not None

    @property
    def flow(self) -> Literal["connect", "reconsent"]:
        """The same in a word."""
        return "reconsent" if self.reconsent else "connect"


class CallbackUrl(Protocol):
    """Chooses the redirect URI of a provider; blank leaves it to the configuration.

    It is asked when the caller of ``connect`` and the provider's table gave none. If it is blank for a ``reconsent``,
    it is asked once more as for a ``connect``. What it raises ends the call of ``connect``.
    """

    def __call__(self, request: CallbackRequest, /) -> str: ...


class ErrorClassifier(Protocol):
    """Turns an unsuccessful answer into a typed error; None leaves it to the core."""

    def __call__(self, response: HttpResponse, /) -> Exception | None: ...


class RateLimitPolicy:
    """A plugin's own say in the rate limit of a provider: inherit from it, and override what differs.

    An object of another class that has ``before`` and ``after`` alone does as well.
    """

    def before(self, bucket: str) -> float:
        """Seconds to wait before the call of ``connection:operation``; 0 to go.

        The runtime's own budget holds besides.
        """
        return 0.0

    def after(self, bucket: str, response: HttpResponse) -> None:
        """See the answer of a call that :meth:`before` was asked for."""

    def budget(self, operation: Operation) -> RateBudget | None:
        """The budget that counts calls of ``operation``, in place of what the records say; None for those."""
        return None

    def learn(self, response: HttpResponse, now: datetime) -> Iterable[RateFact]:
        """What an answer tells of the rate limit, besides what ``RateBudget.learn`` names."""
        return ()


class ConnectionPolicy(Protocol):
    """Chooses among the connections that could serve a scope."""

    def __call__(self, scope: Scope, connections: Sequence[Connection], /) -> Connection | None: ...
