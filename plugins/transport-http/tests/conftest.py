from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from go_services_core.clock import SystemClock
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_transport_http.settings import TransportSettings
from go_services_transport_http.transport import HttpTransport


@pytest.fixture
def make() -> Callable[..., HttpTransport]:
    """Makes a transport; by default ``kit`` may reach 127.0.0.1 on any port."""
    return make_transport


def make_transport(
    *, allow: Mapping[str, tuple[str, ...]] | None = None, resolver: Callable[[], Any] | None = None, **settings: Any
) -> HttpTransport:
    env = PluginEnv(
        clock=SystemClock(),
        logger=logging.getLogger("go_services.transport-http"),
        resolve_secret=SecretStr,
        egress_allow={"kit": ("127.0.0.1:*",)} if allow is None else allow,
    )
    given = {} if resolver is None else {"resolver": resolver}
    return HttpTransport(TransportSettings(**settings), env, **given)
