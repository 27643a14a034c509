"""``[secrets] at_start``: whether the secret backend must answer for the runtime to start."""

from __future__ import annotations

import asyncio

import pytest

from go_services_core.errors import BackendUnavailable, KeyInvalid
from go_services_core.model import KeyRef
from go_services_core.testing.memory import MemoryStore

from .member import Remote

LAZY = {"secrets.backend": "remote", "secrets.at_start": "lazy"}
REQUIRE = {"secrets.backend": "remote"}


@pytest.fixture
def remote():
    return Remote()


def opening(app, remote, settings):
    return app.open(settings={**settings, "runtime.cache_seconds": 0}, plugins={"remote": remote})


async def test_required_backend_that_is_away_refuses_the_start_before_the_database(app, remote):
    app.template = None
    remote.member.away = True
    with pytest.raises(BackendUnavailable, match="away"):
        async with opening(app, remote, REQUIRE):
            pytest.fail("opened")
    assert not app.database.exists()


async def test_lazy_start_serves_what_needs_no_secret_and_recovers_by_itself(either, remote):
    async with opening(either, remote, REQUIRE) as runtime:
        connection = await either.connect(runtime)
    remote.member.away = True
    async with opening(either, remote, LAZY) as runtime:
        assert (await runtime.connection(connection.id)).status == "active"
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await runtime.execute(connection.id, "me")
            with pytest.raises(BackendUnavailable):
                await either.begin(runtime, "u2")
        status = await runtime.key_status()
        assert status.primary is None
        assert "away" in status.problem
        assert sum(use.rows for use in status.uses) == 2
        (health,) = [health for name, health in await runtime.health() if name == "secrets"]
        assert (health.ok, "away" in health.detail) == (False, True)
        assert (await runtime.connection(connection.id)).secret_state == "ok"

        remote.member.away = False
        calls = [runtime.execute(connection.id, "me") for _ in range(5)]
        assert [result.status for result in await asyncio.gather(*calls)] == [200] * 5
        await either.connect(runtime, "u2")
        assert (await runtime.key_status()).problem == ""


async def test_lazy_start_on_a_new_database_keeps_the_key_check_once_the_backend_answers(either, remote):
    remote.member.away = True
    async with opening(either, remote, LAZY) as runtime:
        with pytest.raises(BackendUnavailable):
            await either.begin(runtime)
        remote.member.away = False
        await either.connect(runtime)
        assert (await runtime.key_status()).check == remote.member.key


@pytest.mark.parametrize("settings", [LAZY, REQUIRE])
async def test_wrong_key_is_refused_by_its_id_in_both_ways(either, remote, settings):
    """P52."""
    async with opening(either, remote, REQUIRE) as runtime:
        await either.connect(runtime)
    other = Remote()
    other.member.key = KeyRef("remote", "another-key", 1)
    with pytest.raises(KeyInvalid, match=r"remote-key.*another-key"):
        async with opening(either, other, settings):
            pytest.fail("opened")


async def test_wrong_key_that_shows_after_a_lazy_start_lets_nothing_through(either, remote):
    """P52: nothing is sealed under it, however often it is tried, and nothing is changed."""
    async with opening(either, remote, REQUIRE) as runtime:
        connection = await either.connect(runtime)
        before = await runtime._core.store.sealed.keys()
    other = Remote()
    other.member.key = KeyRef("remote", "another-key", 1)
    other.member.away = True
    async with opening(either, other, LAZY) as runtime:
        other.member.away = False
        for _ in range(2):
            with pytest.raises(KeyInvalid, match="remote-key"):
                await runtime.execute(connection.id, "me")
            with pytest.raises(KeyInvalid):
                await either.begin(runtime)
            with pytest.raises(KeyInvalid):
                await runtime.rewrap(all=True)
        assert await runtime._core.store.sealed.keys() == before
        assert (await runtime.connection(connection.id)).secret_state == "ok"
        assert "remote-key" in (await runtime.key_status()).problem
    async with opening(either, remote, REQUIRE) as runtime:
        assert (await runtime.execute(connection.id, "me")).status == 200


async def test_check_is_made_once_and_not_for_each_secret(sandbox, clock, tmp_path, remote, app):
    store = MemoryStore(clock=clock)
    asked = []
    remember = store.remember

    async def counted(name, value):
        asked.append(name)
        return await remember(name, value)

    store.remember = counted
    async with app.open(settings=LAZY, plugins={"remote": remote}, store=store) as runtime:
        for who in ("u1", "u2", "u3"):
            await app.connect(runtime, who)
        assert asked == ["key_check"]
