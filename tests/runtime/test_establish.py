"""Connecting with what a person typed; the provider is asked whose it is."""

from __future__ import annotations

import pytest

from go_services_core import Scope
from go_services_core.errors import AuthError, BadInput, ReauthRequired, TransportError
from go_services_core.secret import SecretStr

WHO = Scope("user", "u1")


def typed(app, provider_id):
    sandbox = app.sandbox
    return {
        "keyed": {"key": sandbox.api_key},
        "basic": {"username": sandbox.basic_user, "password": sandbox.basic_password},
    }[provider_id]


@pytest.mark.parametrize("provider_id", ["keyed", "basic"])
async def test_right_credential_becomes_a_connection_of_the_account_it_opens(either, provider_id):
    async with either.open() as runtime:
        connection = await runtime.establish(provider_id, scope=WHO, fields=typed(either, provider_id))
        assert (connection.status, connection.external_account_id) == ("active", "1001")
        assert await either.events(runtime) == ["connection.established"]
        again = await runtime.establish(provider_id, scope=WHO, fields=typed(either, provider_id))
        assert again.id == connection.id


async def test_personal_token_calls_as_a_bearer_token(app, runtime):
    start, params = await app.begin(runtime)
    await runtime.complete(params, binding=start.binding)
    access = next(secret for secret in app.sandbox.issued_secrets() if secret.startswith("sbx_at_"))
    connection = await runtime.establish("personal", scope=WHO, fields={"token": access})
    assert (await runtime.execute(connection.id, "me")).data["login"] == "ada"
    assert (await runtime.token(connection.id)).reveal() == access


@pytest.mark.parametrize(
    ("provider_id", "fields"),
    [
        ("keyed", {"key": "wrong"}),
        ("basic", {"username": "sandbox-user", "password": "wrong"}),
        ("personal", {"token": SecretStr("wrong")}),
    ],
)
async def test_credential_that_the_provider_does_not_accept_is_refused_and_not_kept(app, runtime, provider_id, fields):
    with pytest.raises(AuthError) as refused:
        await runtime.establish(provider_id, scope=WHO, fields=fields)
    assert "wrong" not in str(refused.value)
    assert not (await runtime.connections()).items
    assert await app.events(runtime) == []


async def test_wrong_credential_does_not_replace_a_working_one(app, runtime):
    connection = await runtime.establish("keyed", scope=WHO, fields=typed(app, "keyed"))
    with pytest.raises(AuthError):
        await runtime.establish("keyed", scope=WHO, fields={"key": "wrong"})
    assert (await runtime.token(connection.id)) == app.sandbox.api_key


async def test_provider_that_does_not_answer_proves_nothing_and_nothing_is_kept(app, runtime):
    app.sandbox.faults.set("private.key", "cut")
    with pytest.raises(TransportError):
        await runtime.establish("keyed", scope=WHO, fields=typed(app, "keyed"))
    assert not (await runtime.connections()).items


@pytest.mark.parametrize(
    "fields",
    [{}, {"key": ""}, {"key": "a", "kye": "b"}, {"token": "a"}, {"key": "pasted "}, {"key": "a\r\nX-Evil: 1"}],
)
async def test_wrong_fields_are_refused_before_anything_is_sent(app, runtime, fields):
    with pytest.raises(BadInput):
        await runtime.establish("keyed", scope=WHO, fields=fields)
    assert sum(app.sandbox.requests.values()) == 0


async def test_kind_with_a_consent_page_is_refused(runtime):
    with pytest.raises(BadInput, match=r"Runtime\.connect"):
        await runtime.establish("sandbox", scope=WHO, fields={"key": "x"})


async def test_typed_credential_is_in_no_byte_of_the_database(app, runtime):
    await runtime.establish("basic", scope=WHO, fields=typed(app, "basic"))
    assert app.sandbox.basic_password.reveal().encode() not in app.content()


async def test_refreshing_what_cannot_be_renewed_says_so_and_harms_nothing(app, runtime):
    """P24."""
    connection = await runtime.establish("keyed", scope=WHO, fields=typed(app, "keyed"))
    with pytest.raises(ReauthRequired, match="cannot be renewed"):
        await runtime.refresh(connection.id)
    after = await runtime.connection(connection.id)
    assert (after.status, after.refresh_state, after.last_error) == ("active", "ok", "")
    assert (await runtime.token(connection.id)) == app.sandbox.api_key


async def test_provider_that_tells_no_grants_is_asked_instead_of_guessed(app, runtime):
    connection = await runtime.establish("keyed", scope=WHO, fields=typed(app, "keyed"))
    decision = await runtime.can(connection.id, "items.read")
    assert decision.allowed
    assert "does not tell" in decision.reason
