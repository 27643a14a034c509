"""Mix-up: a code of one server must not be sent to another (RFC 9700 §4.4, RFC 9207)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from urllib.parse import urlencode, urlsplit

import pytest
from attrs import evolve

from go_services_core import ApiKey, Scope
from go_services_core.testing.rawserver import raw_server
from go_services_core.testing.sandbox import Sandbox

from .attacks import refused, unharmed

REDIRECT, ITS_OWN = "http://127.0.0.1/callback", "http://127.0.0.1/callback/sandbox"


@asynccontextmanager
async def second_provider(app, clock, **changes):
    """A provider that the attacker runs, beside the honest one."""
    async with Sandbox(clock=clock) as evil:
        spec = evil.spec("evil")
        app.providers.specs["evil"] = evolve(spec, auth=evolve(spec.auth[0], **changes))
        app.settings["providers.evil"] = evil.config("evil")["providers"]["evil"]
        app.settings["egress.allow"] |= {"evil": [urlsplit(evil.url).netloc]}
        yield evil


async def lured(app, start):
    """What the browser brings when the attacker's server sends it on to the honest one, with the attempt's state."""
    honest = await app.runtime.connect("sandbox", scope=Scope("user", "u1"), redirect_uri=REDIRECT)
    query = dict(pair.split("=", 1) for pair in urlsplit(start.url).query.split("&"))
    at_honest, _, asked = honest.url.partition("?")
    fields = dict(pair.split("=", 1) for pair in asked.split("&"))
    wanted = {**fields, "state": query["state"], "code_challenge": query["code_challenge"]}
    return await app.sandbox.consent(at_honest + "?" + "&".join(f"{name}={value}" for name, value in wanted.items()))


@pytest.mark.parametrize("iss", [None, "", "https://evil.example", "{issuer}/", "{issuer}\x00"])
async def test_answer_of_another_issuer_is_refused_before_the_code_goes_anywhere(app, runtime, iss):
    """P05; RFC 9207 §2.4: compared as text, and missing is wrong where the issuer promises it."""
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        issuer = params.pop("iss")
        given = params if iss is None else {**params, "iss": iss.format(issuer=issuer)}
        error = await refused(runtime.complete(given, binding=start.binding), "SERVICE_OAUTH_ISSUER_MISMATCH")
        assert error.field == "iss"
        assert app.sandbox.requests["token"] == 1
        await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_STATE_USED")


async def test_code_of_the_honest_server_is_not_sent_to_the_one_that_lured_the_person_there(app, clock):
    """P05: one redirect URI for both; ``iss`` tells."""
    async with second_provider(app, clock) as evil, app.open() as runtime:
        app.runtime = runtime
        async with unharmed(app, runtime):
            start = await runtime.connect("evil", scope=Scope("user", "u1"), redirect_uri=REDIRECT)
            params = await lured(app, start)
            await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_ISSUER_MISMATCH")
            assert evil.requests["token"] == 0


async def test_server_without_issuer_is_told_apart_by_a_redirect_uri_of_its_own(app, clock):
    """RFC 9700 §4.4.2.2: the callback arrived where the honest server sends people."""
    async with second_provider(app, clock, issuer=None) as evil, app.open() as runtime:
        app.runtime = runtime
        async with unharmed(app, runtime):
            start = await runtime.connect("evil", scope=Scope("user", "u1"), redirect_uri=ITS_OWN)
            params = await lured(app, start)
            await refused(
                runtime.complete(params, binding=start.binding, redirect_uri=REDIRECT),
                "SERVICE_OAUTH_REDIRECT_MISMATCH",
            )
            assert evil.requests["token"] == 0


@pytest.mark.parametrize("field", ["token_url", "issuer", "authorize_url", "client_id", "auth"])
async def test_provider_that_became_another_server_or_client_meanwhile_gets_no_code(app, runtime, field):
    async with unharmed(app, runtime), raw_server() as evil:
        start, params = await app.begin(runtime)
        spec = app.providers.specs["sandbox"]
        settings = {}
        if field == "client_id":
            settings["providers.sandbox"] = {**app.settings["providers.sandbox"], "client_id": "another"}
        elif field == "auth":
            app.set(auth=ApiKey())
            settings["providers.sandbox"] = {}
        else:
            app.set(auth=evolve(spec.auth[0], **{field: evil.url("/token")}))
        async with app.open(settings=settings) as changed:
            error = await refused(changed.complete(params, binding=start.binding), "SERVICE_OAUTH_PROVIDER_CHANGED")
        assert error.field == field
        assert evil.requests == []
        assert app.sandbox.requests["token"] == 1


async def test_provider_that_stayed_the_same_may_change_in_everything_else(app, runtime):
    start, params = await app.begin(runtime)
    spec = app.providers.specs["sandbox"]
    app.set(name="Renamed", auth=evolve(spec.auth[0], default_grants=("items.read",), rotation="none"))
    async with app.open() as changed:
        assert (await changed.complete(params, binding=start.binding)).status == "active"


async def test_provider_parameter_of_the_callback_url_chooses_nothing(app, clock):
    """Protocols, Callback 3."""
    async with second_provider(app, clock) as evil, app.open() as runtime:
        start, params = await app.begin(runtime)
        made = await runtime.complete(f"/callback/evil?{urlencode(params)}", binding=start.binding)
        assert made.provider_id == "sandbox"
        assert evil.requests["token"] == 0
