"""A credential that cannot be opened is a state of its connection (P53): told once, and in nobody else's way."""

from __future__ import annotations

import logging

import pytest

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyDenied, KeyDisabled, KeyNotFound
from go_services_core.model import Sealed
from go_services_core.wrapping_keys import Resealed
from go_services_secrets_appkey.key import generate_key

from .member import Remote


@pytest.fixture
def told(caplog):
    """The lines of the log that name a connection."""
    caplog.set_level(logging.INFO, "go_services.runtime")
    return lambda word: [one.getMessage() for one in caplog.records if word in one.getMessage()]


async def row_of(runtime, connection_id):
    page = await runtime._core.store.sealed.page("credential", limit=100)
    (row,) = [row for row in page.items if row.connection_id == connection_id]
    return row


async def damage(runtime, connection_id):
    """Change a byte of the ciphertext; gives what puts it back."""
    row = await row_of(runtime, connection_id)
    good, facet = row.sealed, runtime._core.store.sealed
    bad = Sealed(good.ciphertext[:-1] + bytes([good.ciphertext[-1] ^ 1]), good.key)
    assert await facet.replace([Resealed(row=row, sealed=bad)]) == []
    runtime._core.forget(connection_id)

    async def repair():
        now = await row_of(runtime, connection_id)
        assert await facet.replace([Resealed(row=now, sealed=good)]) == []
        runtime._core.forget(connection_id)

    return good.key, repair


async def test_damaged_credential_is_told_once_and_blocks_nothing_else(either, told):
    async with either.open(settings={"runtime.cache_seconds": 0}) as runtime:
        seen = []
        runtime.observe(seen.append, name="seen", inline=True)
        broken, well = [await either.connect(runtime, who) for who in ("u1", "u2")]
        key, repair = await damage(runtime, broken.id)
        for _ in range(3):
            with pytest.raises(CannotOpen) as refused:
                await runtime.execute(broken.id, "me")
            assert refused.value.metadata["connection_id"] == broken.id
            assert refused.value.metadata["key_id"] == key.key_id
            assert (await runtime.execute(well.id, "me")).status == 200
        (line,) = told(broken.id)
        assert key.key_id in line
        assert told(well.id) == []
        listed = {one.id: one.secret_state for one in (await runtime.connections()).items}
        assert listed == {broken.id: "unreadable", well.id: "ok"}
        assert [one.id for one in (await runtime.connections(secret_state="unreadable")).items] == [broken.id]
        assert "does not open" in (await runtime.connection(broken.id)).last_error
        (health,) = [health for name, health in await runtime.health() if name == "secrets"]
        assert not health.ok
        assert "1 connection" in health.detail
        assert "go-services secrets" in health.remedy

        await repair()
        assert (await runtime.execute(broken.id, "me")).status == 200
        assert (await runtime.connection(broken.id)).secret_state == "ok"
        assert (await runtime.connection(broken.id)).last_error == ""
        assert len(told("can be opened again")) == 1
        states = [(one.connection_id, one.ok) for one in seen if one.name == "connection.secret_state"]
        assert states == [(broken.id, False), (broken.id, True)]
        (health,) = [health for name, health in await runtime.health() if name == "secrets"]
        assert health.ok


async def test_errors_of_two_connections_are_not_the_same_object(either):
    """They wait for the same data key, and each error names its own connection."""
    async with either.open(settings={"secrets.appkey.key": either.key}) as runtime:
        first = await either.connect(runtime, "u1")
        second = await runtime.establish("keyed", scope=first.scope, fields={"key": either.sandbox.api_key.reveal()})
        ids = {first.id, second.id}
        for id in ids:
            await damage(runtime, id)
        named = set()
        for id in ids:
            with pytest.raises(CannotOpen) as refused:
                await runtime.token(id)
            named.add(refused.value.metadata["connection_id"])
        assert named == ids


async def test_credential_of_a_missing_key_is_unreadable_until_the_key_comes_back(either):
    """P54: a key that is needed and not there; the key check was changed already, so that the start succeeds."""
    new = generate_key()
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        row = await row_of(runtime, connection.id)
    both = {"secrets.appkey.key": new, "secrets.appkey.decrypt_only": [either.key]}
    async with either.open(settings=both) as runtime:
        await runtime.rewrap()
        now = await row_of(runtime, connection.id)
        await runtime._core.store.sealed.replace([Resealed(row=now, sealed=row.sealed)])
    async with either.open(settings={"secrets.appkey.key": new}) as runtime:
        with pytest.raises(KeyNotFound) as refused:
            await runtime.execute(connection.id, "me")
        assert refused.value.metadata["key_id"] == row.sealed.key.key_id
        assert refused.value.retryable
        assert await runtime.retry_unreadable() == (connection.id,)
    async with either.open(settings=both) as runtime:
        assert (await runtime.connection(connection.id)).secret_state == "unreadable"
        assert await runtime.retry_unreadable() == ()
        assert (await runtime.connection(connection.id)).secret_state == "ok"


@pytest.mark.parametrize(
    ("error", "marks"), [(BackendUnavailable, False), (KeyDenied, False), (KeyDisabled, True), (KeyNotFound, True)]
)
async def test_only_what_is_wrong_with_the_secret_marks_it(either, error, marks):
    remote = Remote()
    options = {"settings": {"secrets.backend": "remote"}, "plugins": {"remote": remote}}
    async with either.open(**options) as runtime:
        connection = await either.connect(runtime)
        runtime._core.forget(connection.id)
        runtime._core.sealer.forget()
        remote.member.away, remote.member.fails_with = True, error
        with pytest.raises(error):
            await runtime.execute(connection.id, "me")
        assert (await runtime.connection(connection.id)).secret_state == ("unreadable" if marks else "ok")
        remote.member.away = False
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert (await runtime.connection(connection.id)).secret_state == "ok"


async def test_state_costs_nothing_while_all_is_well(either, monkeypatch):
    async with either.open(settings={"runtime.cache_seconds": 0}) as runtime:
        connection = await either.connect(runtime)

        async def refuse(*args, **more):
            pytest.fail("a statement for a state that did not change")

        monkeypatch.setattr(runtime._core.store.sealed, "mark", refuse)
        for _ in range(3):
            assert (await runtime.execute(connection.id, "me")).status == 200


async def test_store_without_the_facet_gets_the_error_alone(either, monkeypatch):
    async with either.open(settings={"runtime.cache_seconds": 0}) as runtime:
        connection = await either.connect(runtime)
        await damage(runtime, connection.id)
        monkeypatch.setattr(runtime._core.store, "sealed", None, raising=False)
        for _ in range(2):
            with pytest.raises(CannotOpen):
                await runtime.execute(connection.id, "me")
