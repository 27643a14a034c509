"""Attacks on the code: injection, replay and PKCE downgrade (RFC 9700 §4.5, §4.8; RFC 7636)."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import evolve

from go_services_core import Scope
from go_services_core.errors import InvalidGrant

from .attacks import refused, unharmed

WHO = Scope("user", "u1")


def query(url):
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


async def test_code_of_another_attempt_is_worthless(app, runtime):
    """Code injection: the attacker has the victim's code, and an attempt, a state and a browser of their own."""
    async with unharmed(app, runtime):
        _, stolen = await app.begin(runtime, "victim")
        attacker, own = await app.begin(runtime, "mallory")
        await refused(
            runtime.complete({**own, "code": stolen["code"]}, binding=attacker.binding), "SERVICE_INVALID_GRANT"
        )
        assert app.sandbox.requests["token"] == 2


async def test_swapped_callbacks_of_one_browser_connect_nothing(app, runtime):
    """Two attempts at once, their codes exchanged."""
    async with unharmed(app, runtime):
        (one, first), (two, second) = await app.begin(runtime), await app.begin(runtime, "u2")
        for start, params, code in ((one, first, second["code"]), (two, second, first["code"])):
            await refused(runtime.complete({**params, "code": code}, binding=start.binding), "SERVICE_INVALID_GRANT")


async def test_code_that_was_used_is_not_accepted_in_another_attempt(app, runtime):
    """Code replay (RFC 6749 §4.1.2): also with a verifier that cannot be wrong, where the server checks none."""
    start, params = await app.begin(runtime)
    await runtime.complete(params, binding=start.binding)
    again, fresh = await app.begin(runtime, "mallory")
    await refused(runtime.complete({**fresh, "code": params["code"]}, binding=again.binding), "SERVICE_INVALID_GRANT")
    assert len((await runtime.connections()).items) == 1


async def test_challenge_that_was_taken_out_of_the_request_is_not_made_up_for(app, runtime):
    """PKCE downgrade (RFC 9700 §4.8), P06: the server says no, and nothing weaker is tried."""
    async with unharmed(app, runtime):
        start = await runtime.connect("sandbox", scope=WHO, redirect_uri="http://127.0.0.1/callback")
        stripped = "&".join(part for part in start.url.split("&") if not part.startswith("code_challenge"))
        params = await app.sandbox.consent(stripped)
        await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_CALLBACK_REFUSED")
        assert app.sandbox.requests["token"] == 1


async def test_challenge_of_an_attacker_does_not_fit_the_verifier_that_is_always_sent(app, runtime):
    async with unharmed(app, runtime):
        start = await runtime.connect("sandbox", scope=WHO, redirect_uri="http://127.0.0.1/callback")
        url = start.url.replace(query(start.url)["code_challenge"], "A" * 43)
        params = await app.sandbox.consent(url)
        await refused(runtime.complete(params, binding=start.binding), "SERVICE_INVALID_GRANT")


async def test_each_attempt_has_a_verifier_of_its_own_and_s256(app, runtime):
    """P06."""
    asked = [query((await app.begin(runtime))[0].url) for _ in range(5)]
    assert len({one["code_challenge"] for one in asked}) == 5
    assert {one["code_challenge_method"] for one in asked} == {"S256"}


async def test_of_two_callbacks_with_different_codes_one_is_exchanged(app, runtime):
    """P03: racing does not make a second guess possible."""
    start, params = await app.begin(runtime)
    _, other = await app.begin(runtime, "u2")
    calls = [
        runtime.complete({**params, "code": code}, binding=start.binding) for code in (params["code"], other["code"])
    ]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(getattr(one, "code", "") == "SERVICE_OAUTH_STATE_USED" for one in done) == 1
    assert app.sandbox.requests["token"] == 1


@pytest.mark.parametrize("pkce", ["S256", "off"])
async def test_weaker_than_the_record_is_never_what_is_sent(app, pkce):
    """P06: only the record turns PKCE off; then the sandbox, which wants it, refuses."""
    spec = app.providers.specs["sandbox"]
    app.set(auth=evolve(spec.auth[0], pkce=pkce))
    async with app.open() as runtime:
        start, params = await app.begin(runtime)
        assert ("code_challenge" in query(start.url)) is (pkce == "S256")
        if pkce == "S256":
            assert (await runtime.complete(params, binding=start.binding)).status == "active"
        else:
            await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_CALLBACK_REFUSED")


async def test_refusal_by_the_token_endpoint_is_its_own_error(app, runtime):
    start, params = await app.begin(runtime)
    with pytest.raises(InvalidGrant) as caught:
        await runtime.complete({**params, "code": "made-up"}, binding=start.binding)
    assert "made-up" not in str(caught.value)
