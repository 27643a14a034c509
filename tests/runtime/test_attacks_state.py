"""Attacks on the state: CSRF, fixation, swapping and replay (RFC 6749 §10.12, RFC 9700 §4.7)."""

from __future__ import annotations

import pytest

from go_services_core import Scope

from .attacks import refused, unharmed

MINE, OTHERS = "session-of-the-person-1", "session-of-somebody-else"


async def test_forged_state_is_refused(app, runtime):
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        for forged in ({**params, "state": "A" * 43}, {"code": params["code"]}, {**params, "state": ""}):
            await refused(runtime.complete(forged, binding=start.binding), "SERVICE_OAUTH_STATE_UNKNOWN")
        assert app.sandbox.requests["token"] == 1


async def test_attackers_callback_in_a_victims_browser_is_refused(app, runtime):
    """Login CSRF, P01: the victim would use the attacker's account, and feed it."""
    async with unharmed(app, runtime):
        _, attackers = await app.begin(runtime, "mallory")
        victim, _ = await app.begin(runtime)
        await refused(runtime.complete(attackers, binding=victim.binding), "SERVICE_OAUTH_BINDING_MISMATCH")
        await refused(runtime.complete(attackers, binding=""), "SERVICE_OAUTH_BINDING_MISMATCH")
        assert app.sandbox.requests["token"] == 1


async def test_consent_that_an_attacker_began_is_not_finished_by_the_victims_browser(app, runtime):
    """State fixation, P01, P03: the victim consents on the attacker's page; the attacker's scope gets nothing."""
    async with unharmed(app, runtime):
        start = await runtime.connect(
            "sandbox", scope=Scope("user", "mallory"), redirect_uri="http://127.0.0.1/callback"
        )
        params = await app.sandbox.consent(start.url)  # by the victim, who has no binding of this attempt
        await refused(runtime.complete(params, binding=""), "SERVICE_OAUTH_BINDING_MISMATCH")
        assert app.sandbox.requests["token"] == 1


async def test_replayed_callback_is_refused(either):
    """P03, also from the right browser, also on another worker."""
    async with either.open() as runtime:
        start, params = await either.begin(runtime)
        await runtime.complete(params, binding=start.binding)
        before = await either.events(runtime)
        async with either.open() as other:
            for worker in (runtime, other):
                for binding in (start.binding, "somebody else's"):
                    await refused(worker.complete(params, binding=binding), "SERVICE_OAUTH_STATE_USED")
        assert await either.events(runtime) == before
        assert either.sandbox.requests["token"] == 1


async def test_late_callback_is_refused(app, runtime):
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        app.clock.advance(600)
        await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_STATE_EXPIRED")


async def test_five_wrong_browsers_end_an_attempt_whatever_else_they_ask(app, runtime):
    """Also where the arrival is told, which is looked at before the attempt is taken."""
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        arrived = {"redirect_uri": "http://127.0.0.1/callback"}
        for told in (arrived, {}, arrived, {}, arrived):
            await refused(runtime.complete(params, binding="guess", **told), "SERVICE_OAUTH_BINDING_MISMATCH")
        for told in (arrived, {}):
            await refused(runtime.complete(params, binding=start.binding, **told), "SERVICE_OAUTH_STATE_USED")


async def test_scope_provider_and_connection_of_the_request_are_not_read(app, runtime):
    """Protocols, Callback 3."""
    victim = await app.connect(runtime, "victim")
    start, params = await app.begin(runtime, "mallory")
    claims = {"scope": "user:victim", "scope_id": "victim", "connection_id": victim.id, "provider_id": "keyed"}
    made = await runtime.complete({**claims, **params}, binding=start.binding)
    assert (made.scope, made.provider_id) == (Scope("user", "mallory"), "sandbox")
    assert made.id != victim.id
    assert (await app.stored(runtime, victim.id))[1].version == 1


# --- the mode for a front end and a back end on different sites ----------------------------------------------------


async def test_split_attempt_is_finished_with_the_session_alone(either, caplog):
    """P02: bound to what the application holds, logged and observed, and never with its value."""
    seen = []
    async with either.open() as runtime:
        runtime.observe(seen.append, name="test", inline=True)
        caplog.set_level("INFO", logger="go_services.runtime")
        start, params = await either.begin(runtime, session=MINE)
        assert start.binding.reveal() == MINE
        for wrong in (OTHERS, "", MINE[:-1]):
            await refused(runtime.complete(params, binding=wrong), "SERVICE_OAUTH_BINDING_MISMATCH")
        told = [record.getMessage() for record in caplog.records if record.name == "go_services.runtime"]
        assert [start.attempt_id in line for line in told] == [True]
        (split,) = (one for one in seen if one.name == "consent.split")
        assert split.detail == {"attempt_id": start.attempt_id, "scope": "user:u1"}
        assert MINE not in f"{caplog.text} {seen} {start}"
        async with either.open() as other:
            assert (await other.complete(params, binding=MINE)).status == "active"


async def test_attempt_is_bound_to_chance_and_not_logged_as_split_by_default(app, runtime, caplog):
    caplog.set_level("INFO", logger="go_services.runtime")
    one, _ = await app.begin(runtime)
    two, _ = await app.begin(runtime)
    assert len(one.binding.reveal()) == 43
    assert one.binding != two.binding
    assert not caplog.records


@pytest.mark.parametrize("session", ["", " " * 40, "x" * 15, "a" * 40, f" {MINE}", f"{MINE}\n"])
async def test_session_that_could_be_guessed_is_refused_and_begins_nothing(app, runtime, session):
    """P02: there is no mode without a binding."""
    error = await refused(app.begin(runtime, session=session), "SERVICE_BAD_INPUT")
    assert error.field == "session"
    assert app.rows("SELECT count(*) FROM service_oauth_attempts") == [(0,)]
    assert app.sandbox.requests["authorize"] == 0


async def test_session_is_stored_hashed(app, runtime):
    await app.begin(runtime, session=MINE)
    assert MINE.encode() not in app.content()
