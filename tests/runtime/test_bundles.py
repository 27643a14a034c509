"""Moving a scope's connections between databases, keys and backends, without a token in clear anywhere."""

from __future__ import annotations

import base64
from itertools import count
from urllib.parse import quote

import psycopg
import pytest
from attrs import evolve

from go_services_core import Scope, SecretStr
from go_services_core.clock import uuid7
from go_services_core.errors import (
    BadInput,
    BundleChanged,
    BundleInvalid,
    BundleKeyWrong,
    BundleTruncated,
    CapabilityUnsupported,
    ProviderNotFound,
    ReauthRequired,
)
from go_services_core.transfer import TokenImport
from go_services_secrets_appkey.bundle import Bundles
from go_services_secrets_appkey.key import generate_key

from .conftest import App
from .member import Remote
from .test_adopted_credentials import FULL, OTHER, Adopted
from .test_refresh_kills import PostgresApp

ACME = Scope("org", "acme")
KEY = generate_key()
_numbers = count()


@pytest.fixture
def target(sandbox, clock, tmp_path):
    """Another application, with a database and a key of its own, for the same provider."""
    folder = tmp_path / "target"
    folder.mkdir()
    return App(sandbox, clock, folder, None)


async def connected(app, runtime, account="alice", scope=ACME):
    return await app.connect(runtime, scope=scope)


async def established(runtime):
    listed = await runtime._core.store.queues.list("outbox", name="connection.established")
    return len(listed.items)


def forms(secret: str) -> list[bytes]:
    raw = secret.encode()
    return [raw, quote(secret, safe="").encode(), base64.b64encode(raw), base64.b64encode(raw)[:-4], raw.hex().encode()]


async def test_exported_connections_work_in_another_database_under_another_key(app, target, clock):
    async with app.open() as runtime:
        connection = await connected(app, runtime)
        await app.connect(runtime, "someone else")
        exported = await runtime.export_scope(ACME, key=KEY)
        assert (exported.connections, exported.without_secrets) == (1, ())
        before = await app.stored(runtime, connection.id)
    clock.advance(60)
    async with target.open() as runtime:
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert (made.outcome, made.account) == ("new", connection.external_account_id)
        assert made.connection.id == connection.id  # it was free
        after = await target.stored(runtime, connection.id)
        assert after[0].scope == ACME
        for name in ("expires_at", "refresh_expires_at", "created_at", "granted", "requested", "token_type"):
            assert getattr(after[1], name) == getattr(before[1], name), name
        assert after[1].sealed != before[1].sealed
        grants = await runtime._core.store.connections.grants(connection.id)
        assert (grants.requested, grants.granted) == (before[1].requested, before[1].granted)
        assert (await runtime.execute(connection.id, "me")).status == 200
        clock.advance(7200)
        assert (await runtime.execute(connection.id, "me")).status == 200  # renewed here
        assert await established(runtime) == 1
        assert len((await runtime.connections()).items) == 1


async def test_export_from_sqlite_is_imported_into_postgresql(app, sandbox, clock, tmp_path, database_server):
    async with app.open() as runtime:
        connection = await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    name = f"go_services_bundles_{next(_numbers)}_{uuid7(clock)[-6:]}"
    with psycopg.connect(database_server.base, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    there = PostgresApp(sandbox, clock, tmp_path, database_server.url(name))
    async with there.open() as runtime:
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert (made.outcome, made.connection.id) == ("new", connection.id)
        assert (await runtime.execute(connection.id, "me")).status == 200
        (again,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert again.outcome == "unchanged"


async def test_export_is_imported_under_another_secret_backend(app, target):
    async with app.open() as runtime:
        connection = await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    settings = {"secrets.backend": "remote"}
    async with target.open(settings=settings, plugins={"remote": Remote()}) as runtime:
        await runtime.import_bundle(exported.bundle, key=KEY)
        assert (await target.stored(runtime, connection.id))[1].sealed.key.backend == "remote"
        assert (await runtime.execute(connection.id, "me")).status == 200


async def test_no_token_is_in_the_bundle_in_any_form(app, runtime, sandbox):
    await connected(app, runtime)
    exported = await runtime.export_scope(ACME, key=KEY)
    issued = sandbox.issued_secrets()
    assert len(issued) >= 3
    for secret in issued:
        assert not [form for form in forms(secret) if form in exported.bundle]
    assert KEY.reveal().encode() not in exported.bundle


async def test_import_that_is_repeated_changes_nothing(app, target):
    async with app.open() as runtime:
        await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    async with target.open() as runtime:
        (first,) = await runtime.import_bundle(exported.bundle, key=KEY)
        await runtime.refresh(first.connection.id)
        (again,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert again.outcome == "unchanged"
        assert (await target.stored(runtime, first.connection.id))[1].version == 2
        assert await established(runtime) == 1
        await runtime.refresh(first.connection.id)


async def test_account_that_is_connected_there_keeps_its_id(app, target):
    async with app.open() as runtime:
        await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    async with target.open() as runtime:
        there = await connected(target, runtime)
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert (made.outcome, made.connection.id) == ("renewed", there.id)


@pytest.mark.parametrize("where", ["auth", "identity"])
async def test_account_that_is_spelled_with_its_issuer_there_keeps_its_id(app, target, where):
    """P09: a system that did not name the issuer exported the account; the provider's record names it by now."""
    async with app.open() as runtime:
        exported = (await connected(app, runtime)).external_account_id
        bundle = (await runtime.export_scope(ACME, key=KEY)).bundle
    spec = target.providers.specs["sandbox"]
    part = spec.identity if where == "identity" else spec.auth[0]
    target.set(**{where: evolve(part, issuer="https://issuer.example")})
    async with target.open() as runtime:
        named = f"https://issuer.example|{exported}"
        tokens = TokenImport(access_token=SecretStr("another-access-token"))
        there = await runtime.import_connection("sandbox", scope=ACME, tokens=tokens, account=named, verify=False)
        (made,) = await runtime.import_bundle(bundle, key=KEY)
        assert (made.outcome, made.account, made.connection.id) == ("renewed", named, there.connection.id)
        one = evolve(tokens, access_token=SecretStr("one-more-access-token"))
        again = await runtime.import_connection("sandbox", scope=ACME, tokens=one, account=exported, verify=False)
        assert again.connection.id == there.connection.id


async def test_id_that_another_account_has_there_is_not_taken(app, target):
    async with app.open() as runtime:
        connection = await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    async with target.open() as runtime:
        other = await target.connect(runtime, "someone")
    target.rows("PRAGMA foreign_keys = OFF")
    for table, column in (
        ("service_credentials", "connection_id"),
        ("service_grant_snapshots", "connection_id"),
        ("service_grant_events", "connection_id"),
        ("service_lifecycle_outbox", "connection_id"),
        ("service_connections", "id"),
    ):
        target.rows(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", connection.id, other.id)
    async with target.open() as runtime:
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert made.outcome == "new"
        assert made.connection.id != connection.id
        assert (await runtime.connection(connection.id)).scope == Scope("user", "someone")


async def test_what_is_not_active_travels_without_its_secrets(app, target):
    async with app.open() as runtime:
        connection = await connected(app, runtime)
        for secret in app.secrets("sbx_rt_"):
            app.sandbox.ledger.revoke(secret)
        with pytest.raises(ReauthRequired):
            await runtime.refresh(connection.id)
        exported = await runtime.export_scope(ACME, key=KEY)
        assert exported.without_secrets == (connection.id,)
        records = Bundles().open(exported.bundle, KEY)
        assert b"sbx_" not in b"".join(record.reveal() for record in records)
        assert b"pending_reauth" in records[1].reveal()
    async with target.open() as runtime:
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY)
        assert (made.outcome, made.connection) == ("skipped", None)
        assert "pending_reauth" in made.detail
        assert (await runtime.connections()).items == ()


async def test_disconnected_connection_is_left_out(app, runtime):
    connection = await connected(app, runtime)
    await runtime.disconnect(connection.id)
    exported = await runtime.export_scope(ACME, key=KEY)
    assert (exported.connections, exported.without_secrets) == (0, ())


async def test_unreadable_credential_is_told_and_does_not_stop_the_export(app, runtime):
    connection = await connected(app, runtime)
    app.rows("UPDATE service_credentials SET encrypted_payload = x'00'")
    exported = await runtime.export_scope(ACME, key=KEY)
    assert (exported.connections, exported.without_secrets) == (1, (connection.id,))


async def test_scope_of_many_connections_is_exported_whole(app, runtime, monkeypatch):
    for number in range(103):
        await runtime.import_connection(
            "sandbox",
            scope=ACME,
            tokens=TokenImport(access_token=SecretStr(f"token-{number:09}")),
            account=f"a{number}",
            verify=False,
        )
    assert (await runtime.export_scope(ACME, key=KEY)).connections == 103


async def test_credentials_that_the_go_system_sealed_are_exported_opened(tmp_path):
    adopted = Adopted(tmp_path)
    await adopted.adopt(FULL)
    adopted.configure(FULL, OTHER)
    async with adopted.open() as runtime:
        connection = await runtime.connection("c1")
        exported = await runtime.export_scope(connection.scope, key=KEY)
        assert exported.without_secrets == ()
        assert b"go_at_every_field" not in exported.bundle
        records = [record.reveal() for record in Bundles().open(exported.bundle, KEY)]
        assert any(b'"access_token": "go_at_every_field"' in record for record in records)
        outcomes = await runtime.import_bundle(exported.bundle, key=KEY)
        assert {made.outcome for made in outcomes} == {"unchanged"}


@pytest.mark.parametrize(
    ("tamper", "error"),
    [
        (lambda bundle: bundle[:-40], BundleTruncated),
        (lambda bundle: bundle.replace(b"\n1 ", b"\n1 A", 1), BundleChanged),
        (lambda bundle: b"{}\n" + bundle, BundleInvalid),
    ],
)
async def test_bundle_that_was_tampered_with_stores_nothing(app, target, tamper, error):
    async with app.open() as runtime:
        await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    async with target.open() as runtime:
        with pytest.raises(error):
            await runtime.import_bundle(tamper(exported.bundle), key=KEY)
        with pytest.raises(BundleKeyWrong):
            await runtime.import_bundle(exported.bundle, key=generate_key())
        assert (await runtime.connections()).items == ()


@pytest.mark.parametrize(
    "records",
    [
        [],
        [b"{}"],
        [b'{"scope": "org:acme", "connections": 1}'],
        [b'{"scope": "org:acme", "connections": 0}', b"{}"],
        [b'{"scope": "org:acme", "connections": 1}', b'{"id": "1"}'],
    ],
)
async def test_bundle_of_another_content_stores_nothing(runtime, records):
    with pytest.raises(BadInput):
        await runtime.import_bundle(Bundles().seal(records, KEY), key=KEY)
    assert (await runtime.connections()).items == ()


async def test_bundle_with_a_provider_that_is_not_configured_stores_nothing(app, target, clock):
    app.set("personal", identity=None)
    async with app.open() as runtime:
        tokens = TokenImport(access_token=SecretStr("pat-0123456789"))
        await connected(app, runtime)
        clock.advance(1)  # its id is the later one
        await runtime.import_connection("personal", scope=ACME, tokens=tokens, account="a", verify=False)
        exported = await runtime.export_scope(ACME, key=KEY)
    del target.providers.specs["personal"]
    target.settings["egress.allow"] = {id: target.settings["egress.allow"][id] for id in target.providers.specs}
    async with target.open() as runtime:
        with pytest.raises(ProviderNotFound):
            await runtime.import_bundle(exported.bundle, key=KEY)
        assert (await runtime.connections()).items == ()


async def test_dry_run_says_what_would_become_of_each(app, target):
    async with app.open() as runtime:
        await connected(app, runtime)
        exported = await runtime.export_scope(ACME, key=KEY)
    async with target.open() as runtime:
        (made,) = await runtime.import_bundle(exported.bundle, key=KEY, dry_run=True)
        assert (made.outcome, made.connection) == ("new", None)
        assert (await runtime.connections()).items == ()


async def test_runtime_without_a_plugin_that_encrypts_bundles_says_which_to_install(runtime):
    core = runtime._core
    bare = evolve(core.catalog.secret_backends["appkey"], bundles=None)
    core.catalog = evolve(core.catalog, secret_backends={"appkey": bare})
    with pytest.raises(CapabilityUnsupported) as refused:
        await runtime.export_scope(ACME, key=KEY)
    assert "go-services-secrets-appkey" in refused.value.hint
