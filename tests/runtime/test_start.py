"""Starts that are refused: each says what is wrong, in one go, and changes nothing."""

from __future__ import annotations

import sqlite3

import pytest

from go_services_core.errors import (
    ConfigError,
    KeyInvalid,
    SchemaOutOfDate,
    SchemaTooNew,
    ServicesError,
    StoreUnavailable,
)
from go_services_secrets_appkey.key import generate_key


def snapshot(app):
    """Every row of every table."""
    names = [row[0] for row in app.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {name: app.rows(f'SELECT * FROM "{name}"') for name in names}


async def refuse(app, error, match=None, **options):
    with pytest.raises(error, match=match) as refused:
        async with app.open(**options):
            pytest.fail("opened")
    return refused.value


async def test_missing_key_is_refused_and_nothing_is_made(app):
    app.template = None
    del app.settings["secrets.appkey.key"]
    refused = await refuse(app, ConfigError, "secrets.appkey.key")
    assert refused.hint or "env:" in str(refused)
    assert not app.database.exists()


@pytest.mark.parametrize("key", ["", "too-short", "!" * 44])
async def test_malformed_key_is_refused_without_repeating_it(app, key):
    """P52."""
    refused = await refuse(app, ServicesError, settings={"secrets.appkey.key": key})
    assert isinstance(refused, (KeyInvalid, ConfigError))
    assert len(key) < 2 or key not in str(refused)


async def test_wrong_key_is_refused_by_name_and_changes_nothing(app):
    """P52: both key ids are named, so that the operator can find the right one."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        mine = (await runtime._core.backend.check()).key_id
    before, content = snapshot(app), app.content()
    other = generate_key()
    refused = await refuse(app, KeyInvalid, settings={"secrets.appkey.key": other})
    named = [word.strip(".;") for word in str(refused).split() if word.startswith("app-key-")]
    assert mine in named
    assert len(set(named)) == 2
    assert other.reveal() not in str(refused)
    assert (snapshot(app), app.content()) == (before, content)
    async with app.open() as runtime:
        assert (await runtime.execute(connection.id, "me")).status == 200


async def test_new_key_beside_the_old_one_is_accepted(app):
    """P54b: the old key only opens, the new one seals."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    both = {"secrets.appkey.key": generate_key(), "secrets.appkey.decrypt_only": [app.key]}
    async with app.open(settings=both) as runtime:
        assert (await runtime.execute(connection.id, "me")).status == 200
        await runtime.refresh(connection.id)
    async with app.open(settings=both) as runtime:
        assert (await runtime.execute(connection.id, "me")).attempts == 1


async def test_database_without_migrations_is_refused_and_stays_as_it_is(app):
    refused = await refuse(app, SchemaOutOfDate, migrate=False)
    assert "store migrate" in str(refused)
    assert not app.database.exists()
    sqlite3.connect(app.database).close()
    app.database.touch()
    await refuse(app, SchemaOutOfDate, migrate=False)
    assert app.database.stat().st_size == 0


async def test_database_of_a_newer_release_is_refused_and_stays_as_it_is(app):
    async with app.open():
        pass
    app.rows(
        "INSERT INTO service_migrations SELECT number + 1000, 'future', checksum, applied_at FROM service_migrations"
    )
    before = snapshot(app)
    for migrate in (True, False):
        await refuse(app, SchemaTooNew, migrate=migrate)
    assert snapshot(app) == before


async def test_file_that_is_no_database_is_refused_and_stays_as_it_is(app):
    app.database.write_bytes(b"This is a letter, not a database. " * 100)
    before = app.database.read_bytes()
    for migrate in (True, False):
        await refuse(app, StoreUnavailable, migrate=migrate)
    assert app.database.read_bytes() == before


async def test_folder_that_does_not_exist_is_refused(app, tmp_path):
    await refuse(app, ServicesError, settings={"store.url": f"sqlite:///{tmp_path}/no/such/folder/app.db"})


async def test_store_that_nobody_serves_is_refused_by_its_scheme(app):
    await refuse(app, ServicesError, "mongo", settings={"store.url": "mongo://localhost/x"})


async def test_broken_configuration_is_refused_with_every_problem_at_once(app):
    app.template = None
    wrong = {
        "runtime.cache_secnds": 3,
        "runtime.attempt_lifetime": "soon",
        "worker.batch": "many",
        "providers.sandbox.client_idd": "x",
        "providers.nobody.client_id": "x",
    }
    refused = await refuse(app, ConfigError, settings=wrong)
    said = str(refused)
    for name in ("cache_secnds", "attempt_lifetime", "worker.batch", "client_idd", "nobody"):
        assert name in said
    assert len(refused.problems) >= 5
    assert "cache_seconds" in said  # did you mean
    assert not app.database.exists()


async def test_runtime_that_was_refused_leaves_nothing_running(app):
    """Another start right after it works: no lock, no thread, no socket is left."""
    for _ in range(3):
        await refuse(app, SchemaOutOfDate, migrate=False)
    async with app.open() as runtime:
        assert (await runtime.store_status()).problems == ()


async def test_status_migrations_catalogue_and_lists_can_be_looked_at(app, runtime):
    assert await runtime.migrate() == []
    assert await runtime.migrate(dry_run=True) == []
    status = await runtime.store_status()
    assert status.pending == ()
    assert {"sandbox", "keyed", "basic", "personal"} == set(runtime.providers())
    assert "sandbox" in runtime.catalog().providers
    made = {(await app.connect(runtime, f"u{number}")).id for number in range(5)}
    seen, after = set(), None
    while True:
        page = await runtime.connections(provider_id="sandbox", status="active", limit=2, after=after)
        seen |= {item.id for item in page.items}
        after = page.next
        if after is None:
            break
    assert seen == made
