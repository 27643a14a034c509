"""What can go wrong with recorded answers."""

from __future__ import annotations

from .callers import BadInput
from .calls import TransportError


class RecordingInvalid(BadInput):
    """The recording cannot be used: it is not there, is none, or holds a secret."""

    code = "SERVICE_RECORDING_INVALID"


class NotRecorded(TransportError):
    """The recording has no answer to this request; nothing was sent."""

    status = 404
    code = "SERVICE_NOT_RECORDED"
    retryable = False
