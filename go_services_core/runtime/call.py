"""One intended call while it is under way: what its parts decide by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from ..call_specs import RetryPolicy
from ..specs import Operation
from .core import Loaded

if TYPE_CHECKING:
    from ..exchange import Checkpoint
    from ..protocols import Signer, Transport


@define(kw_only=True)
class Call:
    """An operation that is being executed, from the permit to the result; one object for all its attempts."""

    loaded: Loaded
    """The connection; another object after a renewal."""
    operation: Operation
    retry: RetryPolicy
    timeout: float
    """Seconds for one request."""
    until: float
    """When the time for everything is over, by the monotonic clock; infinity is no end."""
    idempotency_key: str | None = None
    """Sent with every attempt; repeating the call does nothing more."""
    ledger_key: str | None = None
    """The key that the ledger keeps the call under, also where the provider honours none."""
    background: bool = False
    """Whether interactive calls go first where the budget is short."""
    transport: Transport | None = None
    """Sends its requests in place of the runtime's own, for a kind that does so or an answer read in pieces."""
    signer: Signer | None = None
    """Signs the request under way in place of the connection's."""
    checkpoint: Checkpoint | None = None
    """From where a later call can go on."""
    attempts: int = 0
    """Requests that were made so far; those of a page or a step of an exchange count each."""
    renewed: bool = False
    """Whether a refused credential was renewed for the request under way: once is enough for it and its repetitions."""
    under_way: bool = False
    """Whether a request is out that has no answer yet."""
    doubt: Exception | None = None
    """What left open whether a request that must not be done twice was carried out, until its answer comes."""
    at: str = ""
    """Where the request under way goes: to another URL than its own where a redirect led on."""
    led_on: bool = False
    """Whether the request under way was answered with where its answer is to be read: it was carried out."""
