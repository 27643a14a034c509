"""Attacks by redirects: where a callback arrives, where it leads, and what it tells on the way (RFC 9700 §4.1–4.3)."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

import pytest
from attrs import evolve

from go_services_core.callback import callback_response
from go_services_core.errors import CallbackRefused, ServicesError
from go_services_core.testing.rawserver import http_answer, raw_server

from .attacks import refused, unharmed

REDIRECT = "http://127.0.0.1/callback"
ALLOWED = {"runtime.return_to": ["https://app.example/done", "/settings"]}


# --- where it arrives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arrived",
    [
        "http://127.0.0.1/callback/",
        "http://127.0.0.1/Callback",
        "http://127.0.0.1/callback?x=1",
        "http://127.0.0.1/callback#x",
        "http://127.0.0.1/callback/sandbox",
        "https://127.0.0.1/callback",
        "http://localhost/callback",
        "http://[::1]/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1:0x50/callback",
        "http://127.0.0.1:1234567/callback",
        "",
    ],
)
async def test_callback_that_arrived_elsewhere_is_refused_and_uses_up_nothing(app, runtime, arrived):
    """Behaviour of a callback with another redirect URI: the right one still works."""
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime, "u1")
        error = await refused(
            runtime.complete(params, binding=start.binding, redirect_uri=arrived), "SERVICE_OAUTH_REDIRECT_MISMATCH"
        )
        assert error.field == "redirect_uri"
        assert app.sandbox.requests["token"] == 1
    assert (await runtime.complete(params, binding=start.binding, redirect_uri=REDIRECT)).status == "active"


@pytest.mark.parametrize("arrived", ["http://127.0.0.1:54321/callback", REDIRECT])
async def test_port_of_a_loopback_address_may_be_another(app, runtime, arrived):
    """RFC 8252 §7.3."""
    for begun in (REDIRECT, "http://127.0.0.1:8123/callback"):
        start, params = await app.begin(runtime, redirect_uri=begun)
        assert (await runtime.complete(params, binding=start.binding, redirect_uri=arrived)).status == "active"


@pytest.mark.parametrize("begun", ["https://app.example/cb", "http://localhost/cb"])
async def test_port_of_a_name_is_compared(app, runtime, begun):
    start = await runtime.connect("sandbox", scope=(await app.connect(runtime)).scope, redirect_uri=begun)
    state = start.url.partition("state=")[2].partition("&")[0]
    call = runtime.complete(
        {"code": "c", "state": state}, binding=start.binding, redirect_uri=begun.replace("/cb", ":8443/cb")
    )
    await refused(call, "SERVICE_OAUTH_REDIRECT_MISMATCH")


async def test_setting_makes_the_arrival_something_that_has_to_be_told(app):
    """Configuration may tighten, and a request may not loosen."""
    async with app.open(settings={"runtime.require_redirect_uri": True}) as runtime:
        start, params = await app.begin(runtime)
        await refused(runtime.complete(params, binding=start.binding), "SERVICE_OAUTH_REDIRECT_MISMATCH")
        await refused(
            runtime.complete({**params, "redirect_uri": REDIRECT}, binding=start.binding),
            "SERVICE_OAUTH_REDIRECT_MISMATCH",
        )
        assert app.sandbox.requests["token"] == 0
        assert (await runtime.complete(params, binding=start.binding, redirect_uri=REDIRECT)).status == "active"


@pytest.mark.parametrize("name", ["code", "state", "iss", "error"])
async def test_parameter_that_occurs_twice_is_refused(app, runtime, name):
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        twice = [*params.items(), (name, "x"), (name, "y")]
        error = await refused(runtime.complete(twice, binding=start.binding), "SERVICE_OAUTH_DUPLICATE_PARAMETER")
        assert error.field == name
        assert app.sandbox.requests["token"] == 1


# --- where it leads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", ["https://evil.example/", "//evil.example", "/\\evil.example", "/settingsx", "/"])
async def test_consent_that_would_end_at_a_strangers_page_is_not_begun(app, evil):
    """Open redirector (RFC 9700 §4.11.1)."""
    async with app.open(settings=ALLOWED) as runtime:
        error = await refused(app.begin(runtime, return_to=evil), "SERVICE_RETURN_TO_REFUSED")
        assert error.field == "return_to"
        assert app.rows("SELECT count(*) FROM service_oauth_attempts") == [(0,)]
    async with app.open() as runtime:  # nothing is listed: nothing is allowed
        await refused(app.begin(runtime, return_to="/settings"), "SERVICE_RETURN_TO_REFUSED")


async def test_place_to_return_to_comes_from_the_attempt_and_not_from_the_callback(either):
    async with either.open(settings=ALLOWED) as runtime:
        start, params = await either.begin(runtime, return_to="https://app.example/done?tab=2#top")
        async with either.open() as other:  # on another worker, whatever that allows
            result = await other.callback(
                {**params, "return_to": "https://evil.example/"}, binding=start.binding, redirect_uri=REDIRECT
            )
        assert result.return_to == "https://app.example/done?tab=2#top"
        assert result.connection == await runtime.connection(result.connection.id)
        answer = callback_response(result)
        assert (answer.status, answer.header("Location")) == (303, "https://app.example/done?tab=2#top")
        start, params = await either.begin(runtime)
        assert (await runtime.callback(params, binding=start.binding)).return_to is None


@pytest.mark.parametrize(
    ("return_to", "location"),
    [
        ("/settings", "/settings?error=SERVICE_OAUTH_CALLBACK_REFUSED"),
        ("/settings?a=1#top", "/settings?a=1&error=SERVICE_OAUTH_CALLBACK_REFUSED#top"),
    ],
)
async def test_refusal_leads_to_the_same_place_and_says_so(app, return_to, location):
    async with app.open(settings=ALLOWED) as runtime:
        app.sandbox.deny_next = True
        start, params = await app.begin(runtime, return_to=return_to)
        with pytest.raises(CallbackRefused) as caught:
            await runtime.callback(params, binding=start.binding)
        assert caught.value.metadata == {"error": "access_denied", "return_to": return_to}
        answer = callback_response(caught.value)
        assert (answer.status, answer.header("Location")) == (303, location)


async def test_token_endpoint_that_redirects_gets_neither_code_nor_secret_forwarded(app, runtime):
    """307 repeats a POST with its body (RFC 9700 §4.12)."""
    async with unharmed(app, runtime), raw_server() as evil:
        turn = http_answer(307, b"", (("Location", evil.url("/collect")),))
        async with raw_server(turn) as turning:
            host = f"127.0.0.1:{turning.port}"
            settings = {"egress.allow": {"sandbox": [*app.settings["egress.allow"]["sandbox"], host]}}
            app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], token_url=turning.url("/token")))
            async with app.open(settings=settings) as runtime_there:
                start, params = await app.begin(runtime_there)
                with pytest.raises(ServicesError):
                    await runtime_there.complete(params, binding=start.binding)
            assert len(turning.requests) == 1
        assert evil.requests == []


# --- what it tells -------------------------------------------------------------------------------------------------


async def test_answer_leaks_no_url_and_is_kept_by_nobody(app):
    """Referrer leak (RFC 9700 §4.2.4), protocols, Callback 4."""
    async with app.open(settings=ALLOWED) as runtime:
        outcomes = []
        for options in ({}, {"return_to": "/settings"}):
            start, params = await app.begin(runtime, **options)
            outcomes.append(await runtime.callback(params, binding=start.binding))
            with pytest.raises(ServicesError) as caught:
                await runtime.callback(params, binding=start.binding)
            outcomes.append(caught.value)
        for outcome in outcomes:
            answer = callback_response(outcome)
            assert answer.header("Referrer-Policy") == "no-referrer"
            assert answer.header("Cache-Control") == "no-store"
            assert "default-src 'none'" in answer.header("Content-Security-Policy")
            assert params["code"] not in f"{answer.headers}{answer.body!r}"
        assert [callback_response(outcome).status for outcome in outcomes] == [200, 401, 303, 401]


async def test_words_of_the_provider_are_escaped_where_they_are_shown(app, runtime):
    """P07; protocols, Callback 5."""
    async with unharmed(app, runtime):
        start, params = await app.begin(runtime)
        said = {"error": "access_denied<script>", "error_description": "<img src=x onerror=alert(1)>&\"'"}
        given = {"state": params["state"], "iss": params["iss"], **said}
        error = await refused(
            runtime.complete(urlencode(given), binding=start.binding), "SERVICE_OAUTH_CALLBACK_REFUSED"
        )
        page = callback_response(error).body.decode()
        assert "onerror" in page
        assert "<img" not in page
        assert "<script" not in page


async def test_neither_code_nor_state_nor_binding_is_logged(app, caplog):
    """P40, also where it fails."""
    caplog.set_level(logging.DEBUG)
    async with app.open(settings=ALLOWED) as runtime:
        for wrong in ({}, {"code": "made-up-code"}, {"iss": "https://evil.example"}):
            start, params = await app.begin(runtime, return_to="/settings", session="session-of-the-person-1")
            given = {**params, **wrong}
            try:
                await runtime.complete(given, binding=start.binding, redirect_uri=REDIRECT)
            except ServicesError as error:
                caplog.records.append(logging.makeLogRecord({"msg": f"{error} {error.as_dict()}"}))
            said = " ".join(record.getMessage() for record in caplog.records)
            for secret in (given["code"], given["state"], start.binding.reveal()):
                assert secret not in said
