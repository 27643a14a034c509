"""Streams of NDJSON, server-sent events and lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from go_services_core.call_specs import OperationCall
from go_services_core.errors import BadInput, ResponseInvalid
from go_services_core.exchange import Reading
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.protocols import PluginEnv
from go_services_core.streaming.lines import TextLines
from go_services_core.streaming.ndjson import NdjsonReader
from go_services_core.streaming.sse import SseEvent, SseReader
from go_services_core.transport_specs import Stream

from .settings import StreamSettings, require_above_zero

_ACCEPT: Final = {"ndjson": "application/x-ndjson, application/json;q=0.5", "lines": "text/plain, */*;q=0.5"}


def open_stream(settings: StreamSettings, env: PluginEnv) -> StreamTransport:
    """The transport kind ``stream``.

    Raises:
        ConfigError: a setting cannot be used.
    """
    return StreamTransport(settings)


class StreamTransport:
    """Reads answers item by item."""

    def __init__(self, settings: StreamSettings) -> None:
        require_above_zero(settings, "max_item", "idle_timeout", "reconnect_delay")
        self._settings = settings

    def reading(self, call: OperationCall) -> Reading:
        """A stream of one call.

        Raises:
            BadInput: the record is not a :class:`Stream`, or the body has no JSON form.
        """
        spec = call.record
        if not isinstance(spec, Stream):
            raise BadInput("The kind stream takes a Stream record.", field="call")
        if spec.format != "sse" and (spec.end is not None or spec.reconnects):
            raise BadInput("Only a stream of sse has an end event and reconnects.", field="call")
        body: bytes | None = None
        if call.body:
            try:
                body = json.dumps(dict(call.body), separators=(",", ":"), allow_nan=False).encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise BadInput(f"The body cannot be written as JSON: {error}.", field="body") from None
        request = HttpRequest(call.method, call.url, call.headers, body, self._settings.idle_timeout)
        if spec.format == "sse":
            return Events(request, spec, self._settings)
        parser = NdjsonReader if spec.format == "ndjson" else TextLines
        return Items(request.with_header("Accept", _ACCEPT[spec.format]), parser(self._settings.max_item))


class Items:
    """A stream without a place to go on from: it is opened once."""

    def __init__(self, request: HttpRequest, parser: NdjsonReader | TextLines) -> None:
        self._request = request
        self._parser = parser

    def request(self) -> HttpRequest:
        return self._request

    def opened(self, head: HttpResponse) -> None:
        pass

    def feed(self, piece: bytes) -> Sequence[Any]:
        return self._parser.feed(piece)

    def end(self) -> Sequence[Any]:
        return self._parser.end()

    def again(self) -> float | None:
        return None


class Events:
    """A stream of server-sent events, opened again where its record says so."""

    def __init__(self, request: HttpRequest, spec: Stream, settings: StreamSettings) -> None:
        headers = request.with_header("Accept", "text/event-stream").with_header("Cache-Control", "no-store")
        self._request = headers
        self._spec = spec
        self._delay = settings.reconnect_delay
        self._reader = SseReader(settings.max_item)
        self._tries = spec.reconnects
        self._over = False

    def request(self) -> HttpRequest:
        self._reader.begin()
        last_id = self._reader.last_id
        # An id may have characters that no header takes; browsers send it as UTF-8, which others misread.
        if last_id and last_id.isascii() and last_id.isprintable():
            return self._request.with_header("Last-Event-ID", last_id)
        return self._request

    def opened(self, head: HttpResponse) -> None:
        if head.status == 204:  # WHATWG: do not connect again
            self._over = True
        elif head.content_type != "text/event-stream":
            raise ResponseInvalid(f"The answer is {head.content_type or 'of no type'}, not text/event-stream.")

    def feed(self, piece: bytes) -> Sequence[SseEvent]:
        if self._over:
            return ()
        events = self._reader.feed(piece)
        if events:
            self._tries = self._spec.reconnects
        for place, event in enumerate(events):
            if self._spec.end is not None and event.data == self._spec.end:
                self._over = True
                return events[:place]
        return events

    def end(self) -> Sequence[SseEvent]:
        return ()

    def again(self) -> float | None:
        if self._over or self._tries <= 0:
            return None
        self._tries -= 1
        return self._reader.retry if self._reader.retry is not None else self._delay
