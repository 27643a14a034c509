"""Which connection serves a scope: strictly its own, or an organisation's that the call names."""

from __future__ import annotations

import pytest

from go_services_core import Scope, hookimpl
from go_services_core.errors import BadInput, ConfigError, ConnectionAmbiguous, ConnectionNotFound, ProviderNotFound
from go_services_core.testing.sandbox import Account

ADA, ACME, TEAM = Scope("user", "u1"), Scope("org", "acme"), Scope("org", "team")
INHERITS = {"providers.sandbox.inheritance": "org"}


async def connected(app, runtime, scope, account="1001"):
    app.sandbox.account = Account(id=account)
    return await app.connect(runtime, scope=scope)


async def test_strict_serves_a_scope_by_its_only_active_connection(either):
    async with either.open() as runtime:
        missing = await runtime.resolve("sandbox", ADA)
        assert (missing.outcome, missing.connection) == ("not_found", None)
        assert "user:u1" in missing.reason
        made = await connected(either, runtime, ADA)
        found = await runtime.resolve("sandbox", ADA)
        assert (found.outcome, found.connection, found.parent) == ("direct", made, None)
        other = await connected(either, runtime, ADA, "2002")
        several = await runtime.resolve("sandbox", ADA)
        assert (several.outcome, several.connection) == ("ambiguous", None)
        assert sorted(several.candidates) == sorted([made.id, other.id])
        with pytest.raises(ConnectionAmbiguous) as refused:
            await runtime.find("sandbox", ADA)
        assert refused.value.metadata["candidates"] == list(several.candidates)
        await runtime.require_reconsent(other.id, reason="new terms")
        assert (await runtime.find("sandbox", ADA)).id == made.id


async def test_strict_serves_no_user_by_an_organisation(app, runtime):
    await connected(app, runtime, ACME)
    found = await runtime.resolve("sandbox", ADA, parents=[ACME])
    assert found.outcome == "not_found"
    assert "does not let a user inherit" in found.reason
    with pytest.raises(ConnectionNotFound):
        await runtime.find("sandbox", ADA, parents=[ACME])


async def test_user_inherits_the_connection_of_the_nearest_organisation_that_has_one(either):
    async with either.open(settings=INHERITS) as runtime:
        assert (await runtime.resolve("sandbox", ADA, parents=[TEAM, ACME])).outcome == "not_found"
        of_acme = await connected(either, runtime, ACME)
        assert (await runtime.resolve("sandbox", ADA)).outcome == "not_found"  # nobody guesses whose user it is
        found = await runtime.resolve("sandbox", ADA, parents=[TEAM, ACME])
        assert (found.outcome, found.connection, found.parent) == ("inherited", of_acme, ACME)
        of_team = await connected(either, runtime, TEAM)
        assert await runtime.find("sandbox", ADA, parents=(TEAM, ACME)) == of_team
        own = await connected(either, runtime, ADA)
        direct = await runtime.resolve("sandbox", ADA, parents=[TEAM, ACME])
        assert (direct.outcome, direct.connection, direct.parent) == ("direct", own, None)
        await runtime.disconnect(own.id)
        assert (await runtime.find("sandbox", ADA, parents=[ACME])) == of_acme


async def test_organisation_with_several_connections_is_ambiguous_and_not_passed_over(app):
    async with app.open(settings=INHERITS) as runtime:
        await connected(app, runtime, TEAM)
        await connected(app, runtime, TEAM, "2002")
        await connected(app, runtime, ACME)
        found = await runtime.resolve("sandbox", ADA, parents=[TEAM, ACME])
        assert (found.outcome, len(found.candidates)) == ("ambiguous", 2)
        with pytest.raises(ConnectionAmbiguous, match="org:team"):
            await runtime.find("sandbox", ADA, parents=[TEAM, ACME])


async def test_only_a_user_inherits_and_only_from_organisations(app):
    async with app.open(settings=INHERITS) as runtime:
        for scope, parents in ((ACME, [TEAM]), (ADA, [Scope("user", "u2")])):
            with pytest.raises(BadInput):
                await runtime.resolve("sandbox", scope, parents=parents)
        with pytest.raises(ProviderNotFound):
            await runtime.resolve("sandbx", ADA)


async def test_unknown_inheritance_is_a_problem_of_the_configuration(app):
    with pytest.raises(ConfigError, match="inheritance"):
        async with app.open(settings={"providers.sandbox.inheritance": "everybody"}):
            pass


class Largest:
    """Chooses among all that could serve."""

    @hookimpl
    def gs_connection_policy(self, provider_id):
        return self.choose

    def choose(self, scope, connections):
        return max(connections, key=lambda one: one.external_account_id) if connections else None


async def test_policy_of_a_plugin_wins_and_sees_every_connection_that_could_serve(app):
    async with app.open(settings=INHERITS, plugins={"policy": Largest()}) as runtime:
        assert (await runtime.resolve("sandbox", ADA, parents=[ACME])).outcome == "not_found"
        own = await connected(app, runtime, ADA, "1001")
        of_acme = await connected(app, runtime, ACME, "3003")
        found = await runtime.resolve("sandbox", ADA, parents=[ACME])
        assert (found.outcome, found.connection, found.parent) == ("inherited", of_acme, ACME)
        assert await runtime.find("sandbox", ADA) == own


async def test_policy_sees_also_what_comes_after_the_first_page(app, monkeypatch):
    """Lists are pages, and no part of one is silently left out."""
    async with app.open(plugins={"policy": Largest()}) as runtime:
        facet = runtime._core.store.connections
        pages = facet.list
        for account in ("1001", "3003", "2002"):
            await connected(app, runtime, ADA, account)
            app.clock.advance(1)  # ids sort by time
        monkeypatch.setattr(facet, "list", lambda **options: pages(**options, limit=1))
        assert (await runtime.find("sandbox", ADA)).external_account_id == "3003"
