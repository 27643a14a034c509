"""Malformed answers of a token endpoint, each through a whole renewal: the connection is left as the state table says."""

from __future__ import annotations

import pytest
from attrs import evolve

from go_services_core.errors import ServicesError

TOKEN = b'"access_token": "sbx_at_new", "token_type": "bearer"'
UNREADABLE = {
    "nothing": (200, b""),
    "not JSON": (200, b"\xff\xfe\x00"),
    "half of a JSON object": (200, b'{"access_token": "sbx_at_n'),
    "a JSON list": (200, b"[]"),
    "a JSON string": (200, b'"sbx_at_new"'),
    "null": (200, b"null"),
    "an object too deep": (200, b"[" * 100_000),
    "a page of a login wall": (200, b"<!doctype html><title>Sign in</title>"),
    "no access token": (200, b'{"token_type": "bearer"}'),
    "an access token of null": (200, b'{"access_token": null}'),
    "an access token that is a number": (200, b'{"access_token": 1}'),
    "an empty access token": (200, b'{"access_token": ""}'),
    "a token that no header may hold": (200, b'{"access_token": "a\\r\\nX-Evil: 1"}'),
    "a refresh token that no form may hold": (200, b'{"access_token": "a", "refresh_token": "\\u0000"}'),
    "a redirect": (302, b""),
    "an error status without an OAuth error": (403, b"<h1>Forbidden</h1>"),
    "a status of nobody": (999, b"{}"),
}
"""None of them says whether the refresh token was spent."""
FAILING = {
    "an error without a known code": (400, b'{"error": "kit_is_closed"}'),
    "an error that is a number": (400, b'{"error": 7}'),
    "an error in a 200": (200, b'{"error": "temporarily_unavailable"}'),
    "an error in a form": (400, b"error=slow_down"),
    "a refused client": (401, b'{"error": "invalid_client"}'),
    "too many requests": (429, b"later"),
    "an outage": (503, b"<h1>down</h1>"),
}
"""The endpoint says itself that it gave no token."""
TOLERATED = {
    "life as text": b'{%s, "expires_in": "3600"}',
    "life as a fraction": b'{%s, "expires_in": 3600.5}',
    "no life": b"{%s}",
    "a life that is no number": b'{%s, "expires_in": "soon"}',
    "a life in the past": b'{%s, "expires_in": -5}',
    "a life of for ever": b'{%s, "expires_in": 1e400}',
    "scopes as a list": b'{%s, "scope": ["items.read"]}',
    "scopes of null": b'{%s, "scope": null}',
    "scopes that are a number": b'{%s, "scope": 5}',
    "a refresh token of null": b'{%s, "refresh_token": null}',
    "the access token as refresh token": b'{%s, "refresh_token": "sbx_at_new"}',
    "more fields than asked for": b'{%s, "x": {"y": [1]}, "id_token": 5}',
}
"""Odd, but a token. The refresh token that is left out is unchanged (RFC 6749 §6)."""


def answering(core, status, body):
    """The provider answers, and something on the way makes this of it."""
    send = core.transport.send

    async def garbled(request, *, provider_id):
        answer = await send(request, provider_id=provider_id)
        if not request.url.endswith("/token"):
            return answer
        return evolve(answer, status=status, headers=(("Content-Type", "application/json"),), body=body)

    core.transport = type("Garbling", (), {"send": staticmethod(garbled)})()


async def renewed(app, status, body):
    """Connection and version after a renewal that got this answer, what was raised, and the events."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        before = app.sandbox.requests["token"]
        answering(runtime._core, status, body)
        error = None
        try:
            await runtime.refresh(connection.id)
        except ServicesError as raised:
            error = raised
        assert app.sandbox.requests["token"] - before == 1
        after, row = await app.stored(runtime, connection.id)
        settled = app.rows("SELECT count(*) FROM service_refresh_intents WHERE settled_at IS NULL")
        assert settled == [(0,)]
        assert app.rows("SELECT owner FROM service_leases") == [(None,)]
        said = f"{error} {after.last_error}"
        assert not [secret for secret in app.sandbox.issued_secrets() if secret in said]
        return after, row.version, error, await app.events(runtime)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_unreadable_answer_is_an_unknown_outcome(app, name):
    """P17; state table: answer unreadable, tokens rotate."""
    after, version, error, events = await renewed(app, *UNREADABLE[name])
    assert error is not None
    assert (after.status, after.refresh_state, version) == ("active", "unknown", 1)
    assert events == ["connection.established"]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_unreadable_answer_where_nothing_rotates_is_tried_again(app, name):
    """State table: answer lost, nothing rotates."""
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, rotation="none"))
    app.sandbox.rotation = "none"
    after, version, error, events = await renewed(app, *UNREADABLE[name])
    assert error is not None
    assert (after.status, after.refresh_state, version) == ("active", "backing_off", 1)
    assert events == ["connection.established"]


@pytest.mark.parametrize("name", FAILING)
async def test_refusal_that_is_not_invalid_grant_backs_off(app, name):
    """P17; state table: refused for now, or by an error that is not invalid_grant."""
    after, version, error, events = await renewed(app, *FAILING[name])
    assert error is not None
    assert (after.status, after.refresh_state, version) == ("active", "backing_off", 1)
    assert events == ["connection.established"]


@pytest.mark.parametrize("name", TOLERATED)
async def test_odd_answer_with_a_token_is_saved(app, name):
    """P15, P16."""
    after, version, error, events = await renewed(app, 200, TOLERATED[name] % TOKEN)
    assert error is None
    assert (after.status, after.refresh_state, version) == ("active", "ok", 2)
    assert events == ["connection.established", "credential.refreshed"]
