"""What a transport kind above plain HTTP does, as a generator without I/O: the steps of one call.

The runtime drives it: each request that it yields is signed as the connection's, sent, retried, counted against the
budget and guarded like any other, and its answer is sent back in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import field, frozen

from .http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from .call_specs import OperationCall
    from .errors import ServicesError


@frozen(kw_only=True)
class Send:
    """A step: send ``request``; its answer is the :class:`HttpResponse`.

    A failure is thrown in at the ``yield``: the error that the call would otherwise end with.
    """

    request: HttpRequest
    failure: Callable[[HttpResponse], ServicesError | None] | None = None
    """The error that an answer stands for although its status is 200–299, such as GraphQL's ``errors``, or that its
    status alone does not tell, such as a SOAP fault. It is retried as others of its class. None: the status decides."""
    accept: tuple[int, ...] = ()
    """Statuses outside 200–299 that are no failure here."""
    safe: bool | None = None
    """Whether repeating the request does nothing more, where its method does not tell: a POST that only reads."""


@frozen
class Wait:
    """A step: let ``seconds`` pass, within the call's deadline."""

    seconds: float


@frozen
class Answer:
    """What an exchange returns: the result of the call, and the answer that it was in."""

    data: Any
    response: HttpResponse


Exchange: TypeAlias = Generator[Send | Wait, Any, Answer]


@frozen(kw_only=True)
class Unsettled:
    """A call with an idempotency key of which nobody knows whether it was carried out."""

    operation_id: str
    params: Mapping[str, Any] = field(repr=False)
    """As the caller gave them, the same every time."""
    key: str
    """The idempotency key. The provider has seen it only where the operation has a header for it."""
    base_url: str
    """Of the API."""
    seconds: float
    """Since its first attempt that did not end began."""


Reconciliation: TypeAlias = Generator[Send | Wait, Any, Answer | None]
"""Finds out what became of an unsettled call: its steps are sent as the connection's, and must only read.

It returns the answer that stands for the call's, or None: the call was not carried out and never will be, and is sent.
Where it cannot tell, it raises ``OutcomeUnknown``.
"""


class CallTransport(Protocol):
    """A transport kind that shapes calls: made by the factory of its ``TransportSpec``.

    An object may have ``exchange``, or ``send`` as a :class:`~go_services_core.protocols.Transport` has it, or both.
    Without ``send`` the kind ``rest`` sends its requests; without ``exchange`` calls are shaped as those of ``rest``.
    """

    def exchange(self, call: OperationCall, /) -> Exchange:
        """The steps of one call.

        Raises:
            BadInput: the record or the parameters do not fit; nothing was sent.
        """
        ...
