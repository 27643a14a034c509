"""Nothing is sent: for tests, and for runs that must not touch the provider."""

from __future__ import annotations

from go_services_core.call_specs import Noop, OperationCall
from go_services_core.errors import BadInput
from go_services_core.exchange import Answer, Exchange
from go_services_core.http import HttpResponse
from go_services_core.protocols import PluginEnv


def open_noop(settings: None, env: PluginEnv) -> NoopTransport:
    """The transport kind ``noop``."""
    return NoopTransport()


class NoopTransport:
    """Answers 200 with the call's parameters."""

    def exchange(self, call: OperationCall) -> Exchange:
        """No step.

        Raises:
            BadInput: the record is not a :class:`Noop`.
        """
        if not isinstance(call.record, Noop):
            raise BadInput("The kind noop takes a Noop record.", field="call")
        yield from ()
        return Answer(dict(call.params), HttpResponse(200, url=call.url))
