"""URLs, servers that do not let us in, schemas of other releases, migrations."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import ConfigError, SchemaOutOfDate, SchemaTooNew, StoreError, StoreUnavailable
from go_services_core.protocols import PluginEnv
from go_services_core.redaction import mask
from go_services_core.secret import SecretStr
from go_services_core.testing.postgres import LocalServer, PostgresServer
from go_services_store_postgres.plugin import gs_stores
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore
from go_services_store_postgres.target import target_of
from go_services_store_sql.dialect import POSTGRES
from go_services_store_sql.migrations import migrations
from go_services_store_sql.schema import ddl

LATEST = migrations("postgres")[-1].number


def rows(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def store_at(url: str, **settings: Any) -> PostgresStore:
    return PostgresStore(PostgresSettings(url=url, pool_timeout=2.0, **settings))


def parameters(url: str, **settings: Any) -> dict[str, Any]:
    return psycopg.conninfo.conninfo_to_dict(target_of(PostgresSettings(url=url, **settings)).conninfo)


def test_parameters_of_the_url_reach_libpq() -> None:
    given = parameters("postgresql://app:pw@db1,db2:5433/app?sslmode=verify-full&target_session_attrs=read-write")
    expected = {
        "user": "app",
        "password": "pw",
        "host": "db1,db2",
        "dbname": "app",
        "sslmode": "verify-full",
        "target_session_attrs": "read-write",
        "application_name": "go-services",
    }
    assert {name: given[name] for name in expected} == expected
    assert "options" not in given  # a pooler refuses it


def test_settings_beat_the_url() -> None:
    given = parameters(
        "postgres://app:old@db/app?sslmode=prefer",
        password=SecretStr("new"),
        sslmode="verify-full",
        sslrootcert=Path("ca.pem"),
        sslcert=Path("app.pem"),
        sslkey=Path("app.key"),
        application_name="shop",
    )
    assert given["password"] == "new"
    assert given["sslmode"] == "verify-full"
    assert (given["sslrootcert"], given["sslcert"], given["sslkey"]) == ("ca.pem", "app.pem", "app.key")
    assert given["application_name"] == "shop"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:s3cret-pw@db/shop", "postgresql://app@db/shop"),
        ("postgres://app:s3cret-pw@db:5433/shop?password=s3cret-pw", "postgresql://app@db:5433/shop"),
        ("postgresql:///shop?host=/run/db&user=app&password=s3cret-pw", "postgresql://app@/run/db/shop"),
        ("postgresql://db1:1,db2:2/shop", "postgresql://db1:1,db2:2/shop"),
    ],
)
def test_password_is_not_shown(url: str, shown: str) -> None:
    target = target_of(PostgresSettings(url=url))
    assert target.shown == shown
    assert "s3cret-pw" not in repr(target)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:s3cret%pw@db/shop",
        "postgresql://app:s3cret-pw@db:nowhere/shop?s3cret=1",
        "host=db password=s3cret-pw",
        "sqlite:///s3cret.db",
    ],
)
def test_url_that_libpq_cannot_read_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        target_of(PostgresSettings(url=url))
    assert refused.value.field == "store.url"
    assert "postgresql://" in str(refused.value.hint)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"pool_max": 0, "pool_min": 0},
        {"pool_min": 3, "pool_max": 2},
        {"pool_min": -1},
        {"pool_timeout": 0.0},
        {"statement_timeout": float("nan")},
    ],
)
def test_numbers_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        PostgresStore(PostgresSettings(url="postgresql://db/shop", **settings))
    assert str(refused.value.field).startswith("store.")


def test_plugin_module_imports_neither_peewee_nor_psycopg() -> None:
    code = (
        "import sys, go_services_store_postgres.plugin as plugin; list(plugin.gs_stores());"
        "print(sorted({'peewee', 'psycopg', 'asyncio', 'go_services_store_sql'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


async def test_store_is_built_from_its_record(empty_url: str) -> None:
    (spec,) = gs_stores()
    assert spec.url_schemes == ("postgresql", "postgres")
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("kit"), resolve_secret=SecretStr)
    store = spec.factory.resolve()(PostgresSettings(url=empty_url), env)
    await store.migrate()
    await store.open()
    assert {facet for facet in spec.facets if hasattr(store, facet)} == set(spec.facets)
    await store.aclose()


async def test_migrate_makes_the_tables_once_and_a_random_id(empty_url: str, url: str) -> None:
    store = store_at(empty_url)
    plan = await store.migrate(dry_run=True)
    assert [step.number for step in plan] == list(range(1, LATEST + 1))
    assert {step.applied_at for step in plan} == {None}
    assert rows(empty_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    steps = await store.migrate()
    assert [step.number for step in steps] == [step.number for step in plan]
    assert None not in {step.applied_at for step in steps}
    assert await store.migrate() == []
    ids = []
    for again in (store, store_at(empty_url), store_at(url)):
        await again.open()
        ids.append(again.id)
        await again.aclose()
    assert ids[0] == ids[1] != ids[2]


async def test_migrators_at_once_apply_each_migration_once(empty_url: str) -> None:
    database = urlsplit(empty_url).path.strip("/")
    rows(empty_url, f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    applied = await asyncio.gather(*(store_at(empty_url).migrate() for _ in range(5)))
    assert sorted(step.number for steps in applied for step in steps) == list(range(1, LATEST + 1))


async def test_migrator_waits_for_another_one(empty_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(empty_url) as other:
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('go_services migrations', 0))")
        waiting = asyncio.ensure_future(store_at(empty_url).migrate())
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while await asyncio.to_thread(rows, empty_url, held) != [(1,)]:
            await asyncio.sleep(0.01)
        assert rows(empty_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    assert len(await waiting) == LATEST


async def test_migrations_make_what_the_models_declare(server: PostgresServer, empty_url: str, url: str) -> None:
    for text in ddl(POSTGRES):
        rows(empty_url, text)
    for what in (
        """SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY 1, 2""",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
        """SELECT conrelid::regclass::text, contype, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3""",
    ):
        assert rows(url, what) == rows(empty_url, what)


def test_first_migration_is_unchanged() -> None:
    checksums = {migration.number: migration.checksum for migration in migrations("postgres")}
    assert checksums[1] == "51f14d4a97779ca2dfaaf3b3b01f3d9a2605eb928a313e17675b0f9d58ffb35b"


def test_columns_have_the_types_of_the_go_system(url: str) -> None:
    types = dict(
        rows(
            url,
            """SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
            WHERE table_schema = 'public'""",
        )
    )
    expected = {
        "service_connections.created_at": "timestamp with time zone",
        "service_credentials.encrypted_payload": "bytea",
        "service_credentials.requested_scopes": "jsonb",
        "service_credentials.refreshable": "boolean",
        "service_credentials.version": "integer",
        "service_lifecycle_outbox.payload": "jsonb",
        "service_webhook_deliveries.payload": "bytea",
    }
    assert {name: types[name] for name in expected} == expected


async def test_status_tells_schema_rows_and_server(empty_url: str) -> None:
    store = store_at(empty_url)
    before = await store.status()
    assert (before.schema_version, before.latest_version, len(before.pending)) == (0, LATEST, LATEST)
    assert before.tables == {}
    await store.migrate()
    after = await store.status()
    assert (after.dialect, after.schema_version, after.pending, after.problems) == ("postgres", LATEST, (), ())
    assert after.tables["service_connections"] == 0
    assert after.server.startswith("PostgreSQL 1")


async def test_status_reports_a_database_that_forgets(server: PostgresServer, url: str) -> None:
    database = urlsplit(url).path.strip("/")
    rows(url, f"ALTER DATABASE {database} SET synchronous_commit = off")
    (problem,) = (await store_at(url).status()).problems
    assert "synchronous_commit is off" in problem


async def test_database_without_tables_asks_for_migration_and_stays_so(empty_url: str) -> None:
    store = store_at(empty_url)
    with pytest.raises(SchemaOutOfDate, match="migrate"):
        await store.open()
    assert rows(empty_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def test_newer_schema_is_refused(url: str) -> None:
    rows(url, f"INSERT INTO service_migrations VALUES ({LATEST + 1}, 'tomorrow', 'x', now())")
    store = store_at(url)
    for call in (store.open, store.migrate):
        with pytest.raises(SchemaTooNew, match="tomorrow"):
            await call()
    status = await store.status()
    assert (status.schema_version, status.latest_version) == (LATEST + 1, LATEST)
    assert status.problems


async def test_migration_that_was_edited_is_refused(url: str) -> None:
    rows(url, "UPDATE service_migrations SET checksum = 'edited' WHERE number = 1")
    with pytest.raises(StoreError, match="another text"):
        await store_at(url).open()


async def test_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    rows(empty_url, "CREATE TABLE service_meta (theirs INTEGER)")
    with pytest.raises(StoreError, match="service_meta"):
        await store_at(empty_url).migrate()
    assert rows(empty_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("service_meta",)]


async def test_database_of_another_encoding_is_refused(server: PostgresServer) -> None:
    name = "go_services_latin"
    rows(server.base, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreUnavailable, match="LATIN1"):
            await store_at(server.url(name)).migrate()
    finally:
        rows(server.base, f"DROP DATABASE {name}")


async def test_database_that_does_not_exist_is_named(server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable, match='"nowhere" does not exist') as refused:
        await store_at(server.url("nowhere")).open()
    assert refused.value.hint
    (problem,) = (await store_at(server.url("nowhere")).status()).problems
    assert "nowhere" in problem


async def test_server_that_does_not_run_is_named() -> None:
    store = store_at("postgresql://app:s3cret-pw@127.0.0.1:1/shop")
    with pytest.raises(StoreUnavailable, match=r"app@127\.0\.0\.1:1/shop.*refused") as refused:
        await store.open()
    assert "s3cret-pw" not in str(refused.value)


@pytest.fixture
def guarded(server: PostgresServer, url: str) -> Iterator[str]:
    """The URL of a database as a user who needs a password, which is ``s3cret-pw``."""
    own = server.own
    if own is None:
        pytest.skip("the server of the environment is not ours to configure")
    rows(url, "CREATE ROLE guarded LOGIN PASSWORD 's3cret-pw'")
    rows(url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded")
    rules = own.folder / "data/pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}")
    own.reload()
    _wait_for_rule(own, url)
    yield urlsplit(url)._replace(netloc=f"guarded@127.0.0.1:{own.port}").geturl()
    rules.write_text(before)
    own.reload()
    rows(url, "DROP OWNED BY guarded; DROP ROLE guarded")


def _wait_for_rule(own: LocalServer, url: str) -> None:
    while True:
        try:
            psycopg.connect(urlsplit(url)._replace(netloc=f"guarded@127.0.0.1:{own.port}").geturl()).close()
        except psycopg.OperationalError:
            return


def test_password_in_the_url_is_masked_wherever_the_process_writes_it() -> None:  # P44
    target_of(PostgresSettings(url="postgresql://app:p%40ss-w0rd-of-app@db.example/app"))
    for text in ("connecting with p@ss-w0rd-of-app", "postgresql://app:p%40ss-w0rd-of-app@db.example/app"):
        assert "ss-w0rd" not in mask(text)


async def test_password_comes_from_a_secret_and_is_in_no_error(guarded: str) -> None:
    store = store_at(guarded, password=SecretStr("s3cret-pw"))
    await store.open()
    assert (await store.connections.list()).items == ()
    await store.aclose()
    wrong = urlsplit(guarded)._replace(netloc=urlsplit(guarded).netloc.replace("@", ":wr0ng-pw@")).geturl()
    for refused in (store_at(wrong), store_at(guarded, password=SecretStr("wr0ng-pw"))):
        with pytest.raises(StoreUnavailable, match="password authentication failed") as error:
            await refused.open()
        status = await refused.status()
        assert "wr0ng-pw" not in f"{error.value} {error.value.as_dict()} {status}"


async def test_tls_that_the_server_does_not_speak_is_an_error(server: PostgresServer, url: str) -> None:
    if server.own is None:
        pytest.skip("the server of the environment may speak TLS")
    with pytest.raises(StoreUnavailable, match="SSL"):
        await store_at(url, sslmode="require").open()
