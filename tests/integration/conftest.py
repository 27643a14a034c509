"""The OAuth server of others, and an application configured for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Runtime

from .oidc.bound_clients import BOUND_CLIENTS
from .oidc.clients import KEY_CLIENTS
from .oidc.flows import FLOW_CLIENTS, configure_flows
from .oidc.process import OidcServer, Unavailable, run_server
from .oidc.site import ShiftedClock, Site, configure

REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"


@pytest.fixture(scope="session")
def oidc_server() -> Iterator[OidcServer]:
    yield from served(access_token_seconds=300)


@pytest.fixture
def short_lived_server() -> Iterator[OidcServer]:
    """A server whose access tokens live for three seconds."""
    yield from served(access_token_seconds=3)


@pytest.fixture(scope="session")
def key_server() -> Iterator[OidcServer]:
    """A server at which clients are registered that authenticate with keys; see ``oidc.clients``."""
    yield from served(access_token_seconds=300, clients=[client.metadata() for client in KEY_CLIENTS])


def served(
    *, access_token_seconds: int, clients: Sequence[Mapping[str, Any]] = (), tls: Mapping[str, str] | None = None
) -> Iterator[OidcServer]:
    """A running server, or the reason why this machine cannot have one."""
    try:
        with run_server(access_token_seconds=access_token_seconds, clients=clients, tls=tls) as server:
            yield server
    except Unavailable as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def bound_server() -> Iterator[OidcServer]:
    """A server at which the clients of ``oidc.bound_clients`` are registered."""
    yield from served(access_token_seconds=300, clients=[client.registered() for client in BOUND_CLIENTS])


@pytest.fixture(scope="session")
def flow_server() -> Iterator[OidcServer]:
    """A server at which the clients of ``oidc.flows`` are registered."""
    yield from served(access_token_seconds=300, clients=FLOW_CLIENTS)


@pytest.fixture
def flows(flow_server: OidcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return configure_flows(flow_server, tmp_path, monkeypatch)


@pytest.fixture
def site(oidc_server: OidcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return configure(oidc_server, tmp_path, monkeypatch)


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def runtime(site: Site, clock: ShiftedClock) -> AsyncIterator[Runtime]:
    async with Runtime.open(site.config, clock=clock, migrate=True) as opened:
        yield opened
