"""What a transport kind above plain HTTP does, as a generator without I/O: the steps of one call.

The runtime drives it: each request that it yields is signed as the connection's, sent, retried, counted against the
budget and guarded like any other, and its answer is sent back in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import field, frozen

from .http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from .call_specs import OperationCall
    from .errors import ServicesError
    from .protocols import Signer


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
    signer: Signer | None = None
    """Puts the credential on the request in place of the connection's signer, at each attempt: for a protocol that has
    it inside the body."""


@frozen
class Wait:
    """A step: let ``seconds`` pass, within the call's deadline."""

    seconds: float


@frozen(kw_only=True)
class Place:
    """Where the body of an answer goes."""

    at: int = 0
    """Its first byte's number in the file; what stood from there on is cut off first."""
    resume: Mapping[str, Any] | None = None
    """What a later call needs, as in :class:`Checkpoint`, to go on after as many bytes as came; None: it cannot."""


@frozen(kw_only=True)
class Receive:
    """A step of a download: send ``request`` and write the body of its answer to the caller's file, as it comes.

    The answer is a :class:`Received`, also when the body broke off. A failure before the body is thrown in.
    """

    request: HttpRequest
    place: Callable[[HttpResponse], Place]
    """From the answer's status and headers, before a byte is written; what it raises is thrown in."""
    accept: tuple[int, ...] = ()
    """Statuses outside 200–299 that are no failure here; their bodies are not written."""


@frozen
class Received:
    """What became of a :class:`Receive`."""

    response: HttpResponse
    """Without body, unless its status was outside 200–299."""
    size: int
    """Bytes in the file now."""
    error: ServicesError | None = None
    """What broke the body off."""


@frozen(kw_only=True)
class Checkpoint:
    """A step that does nothing but remember: should the call fail from here on, its error has a token in ``resume``.

    A later call that is given the token has these values in ``OperationCall.resume``.
    """

    resume: Mapping[str, Any]
    """Made of what JSON can hold."""
    metadata: Mapping[str, str] = field(factory=dict)
    """For the error's ``metadata``; no secrets."""


@frozen
class Answer:
    """What an exchange returns: the result of the call, and the answer that it was in."""

    data: Any
    response: HttpResponse


Step: TypeAlias = Send | Wait | Receive | Checkpoint
Exchange: TypeAlias = Generator[Step, Any, Answer]


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


Reconciliation: TypeAlias = Generator[Step, Any, Answer | None]
"""Finds out what became of an unsettled call: its steps are sent as the connection's, and must only read.

It returns the answer that stands for the call's, or None: the call was not carried out and never will be, and is sent.
Where it cannot tell, it raises ``OutcomeUnknown``.
"""


class CallTransport(Protocol):
    """A transport kind that shapes calls: made by the factory of its ``TransportSpec``.

    An object may have ``exchange``, or ``send`` as a :class:`~go_services_core.protocols.Transport` has it, or both.
    Without ``send`` the kind ``rest`` sends its requests; without ``exchange`` calls are shaped as those of ``rest``.
    One whose answers are read while they come has ``reading``: see :class:`StreamKind`. What has ``aclose`` is closed
    with the runtime.
    """

    def exchange(self, call: OperationCall, /) -> Exchange:
        """The steps of one call.

        Raises:
            BadInput: the record or the parameters do not fit; nothing was sent.
        """
        ...


class Reading(Protocol):
    """One stream of items while it is read: pure, without I/O. The runtime opens it, and again after a cut."""

    def request(self) -> HttpRequest:
        """What opens the stream now, unsigned; after a cut it may ask to go on behind the last item."""
        ...

    def opened(self, head: HttpResponse) -> None:
        """Look at status and headers of the answer.

        Raises:
            ResponseInvalid: it is no such stream.
        """
        ...

    def feed(self, piece: bytes) -> Sequence[Any]:
        """The items that are complete with the next bytes.

        Raises:
            ResponseInvalid: the bytes are not of the format; BodyTooLarge: an item is over its limit.
        """
        ...

    def end(self) -> Sequence[Any]:
        """The items that the end of the answer completes; raises as ``feed``."""
        ...

    def again(self) -> float | None:
        """Seconds until the stream, which ended or was cut, is to be opened again; None: it is over."""
        ...


class StreamKind(Protocol):
    """A transport kind whose calls give items one by one: ``Runtime.stream``."""

    def reading(self, call: OperationCall, /) -> Reading:
        """A stream of one call.

        Raises:
            BadInput: the record or the parameters do not fit; nothing was sent.
        """
        ...
