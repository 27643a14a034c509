"""The session's server, and a migrated database of the test's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count

import psycopg
import pytest

from go_services_core.testing.postgres import PostgresServer
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore

_numbers = count()


@pytest.fixture(scope="session")
def server(database_server: PostgresServer) -> PostgresServer:
    return database_server


def run(server: PostgresServer, text: str) -> None:
    with psycopg.connect(server.base, autocommit=True) as connection:
        connection.execute(text.encode())


@pytest.fixture(scope="session")
def template(postgres_template: str) -> str:
    """The name of a migrated database to copy."""
    return postgres_template


@pytest.fixture
def empty_url(server: PostgresServer) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"go_services_{os.getpid()}_{next(_numbers)}"
    run(server, f"CREATE DATABASE {name} TEMPLATE template0")
    yield server.url(name)
    run(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(server: PostgresServer, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database."""
    name = f"go_services_{os.getpid()}_{next(_numbers)}"
    run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    run(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(PostgresSettings(url=url))
    await made.open()
    yield made
    await made.aclose()
