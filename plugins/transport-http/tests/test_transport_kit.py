from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from go_services_core.clock import SystemClock
from go_services_core.protocols import PluginEnv, Transport
from go_services_core.refs import Ref
from go_services_core.secret import SecretStr
from go_services_core.testing.pytest_kit import TransportKit
from go_services_transport_http import plugin


class TestHttpTransport(TransportKit):
    """The transport exactly as the plugin offers it."""

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Transport]:
        spec = next(spec for spec in plugin.gs_transports() if spec.kind == "rest")
        assert isinstance(spec.settings, Ref)
        env = PluginEnv(
            clock=SystemClock(),
            logger=logging.getLogger("go_services.transport-http"),
            resolve_secret=SecretStr,
            egress_allow={"kit": ("127.0.0.1:*",)},
        )
        transport = spec.factory.resolve()(spec.settings.resolve()(), env)
        try:
            yield transport
        finally:
            await transport.aclose()
