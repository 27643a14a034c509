"""From the first click to a stored connection, and every way in which that is refused."""

from __future__ import annotations

import asyncio
from typing import get_args
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from attrs import evolve

from go_services_core import Scope, hookimpl
from go_services_core.errors import (
    AccountMismatch,
    BadInput,
    BindingMismatch,
    CallbackRefused,
    ConfigError,
    ConnectionNotFound,
    InvalidScope,
    ProfileNotFound,
    ProviderError,
    ProviderNotFound,
    StateExpired,
    StateInvalid,
    StateUnknown,
    StateUsed,
    TokenEndpointError,
    TokenResponseInvalid,
    TransportError,
)
from go_services_core.testing.sandbox import Account, TokenAnswer

OTHER = Account(id="2002", login="bob", name="Bob", email="bob@sandbox.example")


async def nothing_was_written(app, runtime):
    return not (await runtime.connections()).items and not await app.events(runtime)


async def test_consent_becomes_an_active_connection_with_its_event(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime, grants=("items.read",))
        assert (connection.status, connection.external_account_id) == ("active", "1001")
        assert connection.scope == Scope("user", "u1")
        assert await runtime.connection(connection.id) == connection
        assert await either.events(runtime) == ["connection.established"]
        result = await runtime.execute(connection.id, "items.list", {"per_page": 3})
        assert (result.status, len(result.data), result.attempts) == (200, 3, 1)
        assert result.request_id.startswith("req_")


async def test_authorization_request_has_pkce_state_and_the_asked_grants(app, runtime):
    start, _ = await app.begin(runtime, grants=("items.read", "items.read"))
    query = parse_qs(urlsplit(start.url).query)
    assert query["scope"] == ["items.read"]
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == ["http://127.0.0.1/callback"]
    assert len(query["state"][0]) == 43


async def test_neither_state_nor_binding_nor_verifier_is_in_the_database(app, runtime):
    start, params = await app.begin(runtime)
    await runtime.complete(params, binding=start.binding)
    content = app.content()
    for secret in (start.binding.reveal(), params["state"], params["code"], *app.sandbox.issued_secrets()):
        assert secret.encode() not in content


async def test_consenting_again_gives_the_same_connection_a_new_credential(either):
    """P09."""
    async with either.open() as runtime:
        first = await either.connect(runtime)
        either.clock.advance(5)
        again = await either.connect(runtime)
        assert (again.id, again.created_at) == (first.id, first.created_at)
        assert len((await runtime.connections()).items) == 1
        _, credential = await runtime._core.store.connections.load(first.id)
        assert credential.version == 2
        assert await either.events(runtime) == ["connection.established"] * 2
        assert (await runtime.execute(first.id, "me")).data["id"] == "1001"


async def test_two_accounts_of_one_scope_are_two_connections(either):
    async with either.open() as runtime:
        first = await either.connect(runtime)
        either.sandbox.account = OTHER
        second = await either.connect(runtime)
        assert first.id != second.id
        assert {item.external_account_id for item in (await runtime.connections()).items} == {"1001", "2002"}
        assert (await runtime.execute(first.id, "me")).data["login"] == "ada"
        assert (await runtime.execute(second.id, "me")).data["login"] == "bob"


async def test_one_account_in_two_scopes_is_two_connections(app, runtime):
    assert (await app.connect(runtime, "u1")).id != (await app.connect(runtime, "u2")).id


async def test_two_consents_for_one_account_at_once_become_one_connection(app, runtime):
    """P09: both read "no connection yet"; the store decides."""
    begun = [await app.begin(runtime) for _ in range(4)]
    made = await asyncio.gather(*(runtime.complete(params, binding=start.binding) for start, params in begun))
    assert len({connection.id for connection in made}) == 1
    assert app.rows("SELECT version, status FROM service_credentials ORDER BY version") == [
        (1, "revoked"), (2, "revoked"), (3, "revoked"), (4, "active"),
    ]  # fmt: skip
    assert await app.events(runtime) == ["connection.established"] * 4


# --- the callback --------------------------------------------------------------------------------------------------


async def test_callback_without_state_is_refused(app, runtime):
    start, params = await app.begin(runtime)
    with pytest.raises(StateUnknown):
        await runtime.complete({"code": params["code"]}, binding=start.binding)
    with pytest.raises(StateUnknown):
        await runtime.complete({**params, "state": ""}, binding=start.binding)


async def test_unknown_state_is_refused(app, runtime):
    start, params = await app.begin(runtime)
    with pytest.raises(StateUnknown):
        await runtime.complete({**params, "state": "x" * 43}, binding=start.binding)
    assert await nothing_was_written(app, runtime)
    assert app.sandbox.requests["token"] == 0


async def test_state_works_once(either):
    """P03."""
    async with either.open() as runtime:
        start, params = await either.begin(runtime)
        await runtime.complete(params, binding=start.binding)
        with pytest.raises(StateUsed):
            await runtime.complete(params, binding=start.binding)
        assert either.sandbox.requests["token"] == 1


async def test_of_two_callbacks_at_once_one_wins(either):
    """P03."""
    async with either.open() as runtime:
        start, params = await either.begin(runtime)
        done = await asyncio.gather(
            *(runtime.complete(params, binding=start.binding) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(outcome, StateUsed) for outcome in done) == 4
        assert either.sandbox.requests["token"] == 1
        assert await either.events(runtime) == ["connection.established"]


async def test_attempt_expires(either):
    """P03."""
    async with either.open(settings={"runtime.attempt_lifetime": 120}) as runtime:
        start, params = await either.begin(runtime)
        assert (start.expires_at - either.clock.now()).total_seconds() == 120
        either.clock.advance(120)
        with pytest.raises(StateExpired):
            await runtime.complete(params, binding=start.binding)
        assert either.sandbox.requests["token"] == 0
        assert await nothing_was_written(either, runtime)


async def test_state_of_one_browser_is_refused_from_another_and_stays_usable(either):
    """P01."""
    async with either.open() as runtime:
        start, params = await either.begin(runtime)
        other, _ = await either.begin(runtime)
        for binding in (other.binding, "", "guess"):
            with pytest.raises(BindingMismatch):
                await runtime.complete(params, binding=binding)
        assert either.sandbox.requests["token"] == 0
        assert (await runtime.complete(params, binding=start.binding)).status == "active"


async def test_five_wrong_bindings_end_the_attempt(either):
    """P01, P03."""
    async with either.open() as runtime:
        start, params = await either.begin(runtime)
        for _ in range(5):
            with pytest.raises(BindingMismatch):
                await runtime.complete(params, binding="guess")
        with pytest.raises(StateInvalid):
            await runtime.complete(params, binding=start.binding)
        assert either.sandbox.requests["token"] == 0
        assert await nothing_was_written(either, runtime)


async def test_callback_works_on_another_worker_and_after_a_restart(app):
    """P04."""
    async with app.open() as one, app.open() as two:
        start, params = await app.begin(one)
        here = await two.complete(params, binding=start.binding.reveal())
        start, params = await app.begin(one)
    async with app.open() as restarted:
        assert (await restarted.complete(params, binding=start.binding)).id == here.id


async def test_callback_is_read_from_a_query_string_or_a_whole_url(app, runtime):
    for form in ("{}", "?{}", "/callback?{}", "https://app.example/callback?{}"):
        start, params = await app.begin(runtime)
        await runtime.complete(form.format(urlencode(params)), binding=start.binding)


async def test_question_mark_inside_a_value_of_the_query_string_is_kept(app, runtime):
    """RFC 3986 §3.4 allows it in clear; the state must be found and the code arrive whole."""
    start, params = await app.begin(runtime)
    with pytest.raises(TokenEndpointError) as refused:
        await runtime.complete(
            f"code=a?b&state={params['state']}&{urlencode({'iss': params['iss']})}", binding=start.binding
        )
    assert "code is unknown" in str(refused.value)


@pytest.mark.parametrize("name", ["code", "state", "iss"])
async def test_duplicate_callback_parameter_is_refused_and_consumes_nothing(app, runtime, name):
    """RFC 6749 §3.1."""
    start, params = await app.begin(runtime)
    for twice in (
        [*params.items(), (name, params[name])],
        f"{urlencode(params)}&{urlencode({name: 'other'})}",
    ):
        with pytest.raises(BadInput) as refused:
            await runtime.complete(twice, binding=start.binding)
        assert refused.value.field == name
    assert (await runtime.complete(params, binding=start.binding)).status == "active"


@pytest.mark.parametrize("issuer", [None, "https://evil.example"])
async def test_callback_of_another_issuer_is_refused(app, runtime, issuer):
    """P05; RFC 9207 §2.4."""
    start, params = await app.begin(runtime)
    params.pop("iss")
    given = params if issuer is None else {**params, "iss": issuer}
    with pytest.raises(StateInvalid) as refused:
        await runtime.complete(given, binding=start.binding)
    assert refused.value.field == "iss"
    assert app.sandbox.requests["token"] == 0
    assert await nothing_was_written(app, runtime)


async def test_refusal_at_the_consent_page_ends_the_attempt_and_harms_nothing(either):
    """P07."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.deny_next = True
        start, params = await either.begin(runtime)
        with pytest.raises(CallbackRefused) as refused:
            await runtime.complete(params, binding=start.binding)
        assert refused.value.metadata == {"error": "access_denied"}
        with pytest.raises(StateUsed):
            await runtime.complete(params, binding=start.binding)
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert await either.events(runtime) == ["connection.established"]


# --- the exchange --------------------------------------------------------------------------------------------------

RIGHT = {"json", "form", "expires-string", "no-expires", "no-scope", "no-refresh"}


@pytest.mark.parametrize("kind", get_args(TokenAnswer))
async def test_every_form_of_token_answer_gives_a_right_token_or_a_typed_error(app, runtime, kind):
    app.sandbox.token_answer = kind
    start, params = await app.begin(runtime)
    if kind not in RIGHT:
        expected = TokenEndpointError if kind == "error-200" else TokenResponseInvalid
        with pytest.raises(expected):
            await runtime.complete(params, binding=start.binding)
        assert await nothing_was_written(app, runtime)
        return
    connection = await runtime.complete(params, binding=start.binding)
    assert (await runtime.execute(connection.id, "items.list", {"per_page": 1})).status == 200
    _, credential = await runtime._core.store.connections.load(connection.id)
    assert credential.granted == ("items.read", "items.write")
    assert credential.refreshable is (kind != "no-refresh")
    lifetime = None if kind == "no-expires" else 3600
    assert (credential.expires_at and (credential.expires_at - app.clock.now()).total_seconds()) == lifetime


@pytest.mark.parametrize("fault", ["429", "500", "503", "html", "cut", "empty", "truncated_json"])
async def test_failing_token_endpoint_leaves_nothing_half_written(app, runtime, fault):
    existing = await app.connect(runtime)
    app.sandbox.faults.set("token", fault)
    start, params = await app.begin(runtime, "u2")
    with pytest.raises((TokenEndpointError, ProviderError, TransportError)):
        await runtime.complete(params, binding=start.binding)
    assert [item.id for item in (await runtime.connections()).items] == [existing.id]
    assert await app.events(runtime) == ["connection.established"]


@pytest.mark.parametrize("fault", ["429", "500", "html", "cut", "empty"])
async def test_failing_identity_endpoint_leaves_nothing_half_written(app, runtime, fault):
    app.sandbox.faults.set("userinfo", fault)
    start, params = await app.begin(runtime)
    unreadable = fault in ("html", "empty")
    with pytest.raises(ProfileNotFound if unreadable else (ProviderError, TransportError)):
        await runtime.complete(params, binding=start.binding)
    assert await nothing_was_written(app, runtime)


async def test_fewer_grants_than_asked_are_what_the_connection_has(app, runtime):
    app.sandbox.approve_scopes = frozenset({"items.read"})
    connection = await app.connect(runtime)
    assert (await runtime.can(connection.id, "items.read")).allowed
    assert (await runtime.can(connection.id, "items.write")).missing == ("items.write",)


# --- consenting again for one connection ---------------------------------------------------------------------------


async def test_reconsent_with_another_account_is_refused(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        start, params = await either.begin(runtime, connection_id=connection.id)
        assert (await runtime.complete(params, binding=start.binding)).id == connection.id
        either.sandbox.account = OTHER
        start, params = await either.begin(runtime, connection_id=connection.id)
        with pytest.raises(AccountMismatch):
            await runtime.complete(params, binding=start.binding)
        assert [item.id for item in (await runtime.connections()).items] == [connection.id]
        assert (await runtime.execute(connection.id, "me")).data["login"] == "ada"


async def test_reconsent_for_a_connection_of_another_scope_or_of_nobody_is_refused(app, runtime):
    connection = await app.connect(runtime, "u1")
    with pytest.raises(BadInput) as refused:
        await app.begin(runtime, "u2", connection_id=connection.id)
    assert refused.value.field == "connection_id"
    with pytest.raises(ConnectionNotFound):
        await app.begin(runtime, "u1", connection_id="nobody")


async def test_reconsent_revives_a_disconnected_connection(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        await runtime.disconnect(connection.id)
        revived = await either.connect(runtime)
        assert (revived.id, revived.status) == (connection.id, "active")
        assert (await runtime.execute(connection.id, "me")).status == 200


# --- what the caller may get wrong ---------------------------------------------------------------------------------


async def test_unknown_provider_is_refused_with_the_nearest_name(runtime):
    with pytest.raises(ProviderNotFound, match="Did you mean 'sandbox'"):
        await runtime.connect("sandbax", scope=Scope("user", "u1"))


async def test_grants_in_one_text_are_refused(app, runtime):
    """A text is a sequence of letters too, and nobody means those."""
    with pytest.raises(BadInput) as refused:
        await app.begin(runtime, grants="items.read")
    assert refused.value.field == "grants"


async def test_unknown_kind_of_authentication_is_refused_with_the_known_ones(runtime):
    with pytest.raises(BadInput, match="oauth2_auth_code"):
        await runtime.connect(
            "sandbox", scope=Scope("user", "u1"), auth="oauth2_code", redirect_uri="http://127.0.0.1/"
        )


async def test_scope_type_that_the_provider_does_not_take_is_refused(app):
    app.set(scope_types=("org",))
    async with app.open() as runtime:
        with pytest.raises(BadInput) as refused:
            await app.begin(runtime)
        assert refused.value.field == "scope.type"
    for type, id in (("team", "x"), ("user", " "), ("user", "")):
        with pytest.raises(InvalidScope):
            Scope(type, id)


async def test_kind_without_a_consent_page_is_refused(app, runtime):
    with pytest.raises(BadInput, match="establish"):
        await runtime.connect("keyed", scope=Scope("user", "u1"), redirect_uri="http://127.0.0.1/")


async def test_provider_without_client_id_is_refused_with_the_missing_setting(app):
    settings = {"providers.sandbox": {"client_secret": "x"}}
    async with app.open(settings=settings) as runtime:
        with pytest.raises(ConfigError, match="client_id"):
            await app.begin(runtime)


# --- the redirect URI ----------------------------------------------------------------------------------------------


class Callbacks:
    def __init__(self, url):
        self.url = url
        self.asked = []

    @hookimpl
    def gs_callback_url(self, provider_id):
        return self.choose if provider_id == "sandbox" else None

    def choose(self, request):
        self.asked.append((request.provider_id, request.scope, request.reconsent))
        return self.url


async def redirect_uri(runtime, **options):
    start = await runtime.connect("sandbox", scope=Scope("user", "u1"), **options)
    return parse_qs(urlsplit(start.url).query)["redirect_uri"][0]


async def test_redirect_uri_comes_from_argument_setting_plugin_and_runtime_in_this_order(app):
    at = "https://{}.example/cb".format
    base = app.settings["providers.sandbox"]
    plugins = {"callbacks": Callbacks(at("plugin"))}
    of_runtime = {"runtime.callback_url": at("runtime")}
    of_provider = {"providers.sandbox": {**base, "redirect_uri": at("provider")}}
    async with app.open(settings={**of_runtime, **of_provider}, plugins=plugins) as runtime:
        assert await redirect_uri(runtime, redirect_uri=at("argument")) == at("argument")
        assert await redirect_uri(runtime) == at("provider")
    async with app.open(settings=of_runtime, plugins=plugins) as runtime:
        assert await redirect_uri(runtime) == at("plugin")
    async with app.open(settings=of_runtime) as runtime:
        assert await redirect_uri(runtime) == at("runtime")
    async with app.open() as runtime:
        with pytest.raises(BadInput, match="callback_url") as refused:
            await redirect_uri(runtime)
        assert refused.value.field == "redirect_uri"


async def test_callback_url_plugin_is_told_who_consents_and_whether_again(app):
    callbacks = Callbacks("http://127.0.0.1/callback")
    async with app.open(plugins={"callbacks": callbacks}) as runtime:
        connection = await app.connect(runtime, redirect_uri=None)
        await app.connect(runtime, redirect_uri=None, connection_id=connection.id)
    who = Scope("user", "u1")
    assert callbacks.asked == [("sandbox", who, False), ("sandbox", who, True)]


async def test_identity_on_a_foreign_host_gets_no_credential(app):
    """P35."""
    app.set(identity=evolve(app.providers.specs["sandbox"].identity, url="https://evil.example/me"))
    async with app.open() as runtime:
        start, params = await app.begin(runtime)
        with pytest.raises(BadInput) as refused:
            await runtime.complete(params, binding=start.binding)
        assert refused.value.field == "identity.url"
        assert await nothing_was_written(app, runtime)
