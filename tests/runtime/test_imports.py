"""Importing what another system kept: whose it is, what is stored, and that a repeated import changes nothing."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from go_services_core import PersonalToken, Scope, SecretStr
from go_services_core.errors import AccountMismatch, AuthError, BadInput, ProviderNotFound, ReauthRequired
from go_services_core.transfer import TokenImport, read_line

WHO = Scope("user", "u1")


async def elsewhere(app, who="elsewhere"):
    """Tokens that the sandbox issued to another system."""
    async with app.open() as other:
        connection = await app.connect(other, who)
        core = other._core
        from go_services_core.runtime.load import load

        tokens = (await load(core, connection.id)).credential.tokens
        return TokenImport(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=tokens.expires_at,
            granted=tokens.granted,
            requested=("items.read",),
        )


async def test_imported_tokens_are_the_connection_of_the_account_that_the_provider_names(either, clock, counted):
    tokens = await elsewhere(either)
    async with either.open() as runtime:
        counted()
        made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        assert counted() == {"userinfo": 1}  # nothing is renewed
        assert (made.outcome, made.connection.scope, made.connection.status) == ("new", WHO, "active")
        assert made.account == made.connection.external_account_id
        assert (await runtime.token(made.connection.id)).reveal() == tokens.access_token.reveal()
        assert (await runtime.execute(made.connection.id, "me")).status == 200
        _, row = await either.stored(runtime, made.connection.id)
        assert (row.version, row.expires_at, row.granted, row.requested) == (
            1, tokens.expires_at, tokens.granted, ("items.read",),
        )  # fmt: skip
        seen = []

        async def note(event, context):
            seen.append(dict(event.payload))

        clock.advance(1)
        await runtime.on("connection.established", note, name="note")
        clock.advance(1)
        await runtime.import_connection("sandbox", scope=Scope("user", "u2"), tokens=tokens)
        await runtime.drain()
        assert [payload["source"] for payload in seen] == ["imported"]


async def test_imported_refresh_token_is_used_when_it_is_time(either, clock):
    tokens = await elsewhere(either)
    async with either.open() as runtime:
        made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        clock.advance(7200)
        assert (await runtime.execute(made.connection.id, "me")).status == 200
        assert (await either.stored(runtime, made.connection.id))[1].version == 2


async def test_token_that_is_about_to_end_is_imported_without_a_renewal(app, counted, clock):
    tokens = await elsewhere(app)
    clock.advance((tokens.expires_at - clock.now()).total_seconds() - 1)
    async with app.open() as runtime:
        counted()
        await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        assert counted() == {"userinfo": 1}


async def test_same_tokens_again_make_no_new_version(either):
    tokens = await elsewhere(either)
    async with either.open() as runtime:
        first = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        events = await either.events(runtime)
        again = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        assert (again.outcome, again.connection) == ("unchanged", first.connection)
        assert (await either.stored(runtime, first.connection.id))[1].version == 1
        assert await either.events(runtime) == events


async def test_tokens_that_were_renewed_here_do_not_come_back(either):
    """A spent refresh token that takes the place of its successor would end the grant."""
    tokens = await elsewhere(either)
    async with either.open() as runtime:
        made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        await runtime.refresh(made.connection.id)
        again = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        assert again.outcome == "unchanged"
        assert (await either.stored(runtime, made.connection.id))[1].version == 2
        await runtime.refresh(made.connection.id)


async def test_other_tokens_of_the_account_are_its_next_version(either):
    first, second = await elsewhere(either), await elsewhere(either, "u9")
    async with either.open() as runtime:
        one = await runtime.import_connection("sandbox", scope=WHO, tokens=first)
        two = await runtime.import_connection("sandbox", scope=WHO, tokens=second)
        assert (two.outcome, two.connection.id) == ("renewed", one.connection.id)
        assert (await either.stored(runtime, one.connection.id))[1].version == 2


async def test_disconnected_account_is_connected_again_by_the_same_tokens(app, runtime):
    tokens = await elsewhere(app)
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], revocation_url=None))
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
    await runtime.disconnect(made.connection.id)
    again = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, account=made.account, verify=False)
    assert (again.outcome, again.connection.id, again.connection.status) == ("renewed", made.connection.id, "active")


async def test_unreadable_credential_is_replaced(app, runtime):
    tokens = await elsewhere(app)
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
    app.rows("UPDATE service_credentials SET encrypted_payload = x'00'")
    again = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
    assert (again.outcome, again.connection.id) == ("renewed", made.connection.id)
    assert (await runtime.execute(made.connection.id, "me")).status == 200


async def test_dry_run_asks_the_provider_and_changes_nothing(app, runtime, counted):
    tokens = await elsewhere(app)
    before = app.rows("SELECT count(*) FROM service_connections")
    counted()
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, dry_run=True)
    assert (made.outcome, made.connection, counted()) == ("new", None, {"userinfo": 1})
    assert app.rows("SELECT count(*) FROM service_connections") == before


async def test_import_that_does_not_ask_the_provider_is_logged(app, runtime, counted, caplog):
    tokens = await elsewhere(app)
    counted()
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, account="acc-1", verify=False)
    assert (made.account, counted()) == ("acc-1", {})
    assert "without asking the provider" in caplog.text
    assert not [secret for secret in app.sandbox.issued_secrets() if secret in caplog.text]


@pytest.mark.parametrize("options", [{"verify": False}, {"verify": False, "account": " "}, {"account": "a "}])
async def test_import_without_asking_needs_the_account(app, runtime, options):
    with pytest.raises(BadInput) as refused:
        await runtime.import_connection("sandbox", scope=WHO, tokens=await elsewhere(app), **options)
    assert refused.value.field == "account"


async def test_account_that_the_provider_does_not_confirm_is_refused(app, runtime):
    tokens = await elsewhere(app)
    before = app.rows("SELECT count(*) FROM service_connections")
    with pytest.raises(AccountMismatch):
        await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, account="somebody")
    assert app.rows("SELECT count(*) FROM service_connections") == before


async def test_provider_that_does_not_tell_accounts_takes_one_only_when_told_not_to_ask(app):
    app.set("personal", identity=None, auth=PersonalToken())
    async with app.open() as runtime:
        tokens = TokenImport(access_token=SecretStr("pat-0123456789"), token_type="pat")
        with pytest.raises(BadInput, match="does not say whose"):
            await runtime.import_connection("personal", scope=WHO, tokens=tokens)
        made = await runtime.import_connection("personal", scope=WHO, tokens=tokens, account="a", verify=False)
        assert made.connection.auth_kind == "pat"


async def test_token_that_the_provider_refuses_is_not_kept(app, runtime):
    tokens = TokenImport(access_token=SecretStr("sbx_at_never_issued"))
    with pytest.raises(AuthError):
        await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
    assert app.rows("SELECT count(*) FROM service_connections") == [(0,)]


async def test_provider_and_scope_are_checked_before_anything_is_asked(app, counted):
    app.set(scope_types=("org",))
    async with app.open() as runtime:
        tokens = TokenImport(access_token=SecretStr("x" * 20))
        counted()
        with pytest.raises(BadInput, match="org"):
            await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
        with pytest.raises(ProviderNotFound):
            await runtime.import_connection("nobody", scope=WHO, tokens=tokens)
        assert counted() == {}


@pytest.mark.parametrize("value", [" token", "token\n", "to\rken", "token\x00", "\ud800"])
async def test_damaged_token_is_refused_by_name_and_never_repeated(runtime, value):
    with pytest.raises(BadInput) as refused:
        await runtime.import_connection(
            "sandbox", scope=WHO, tokens=TokenImport(access_token=SecretStr("fine"), refresh_token=SecretStr(value))
        )
    assert refused.value.field == "refresh_token"


@pytest.mark.parametrize(
    ("grants", "stored"),
    [
        ({"granted": ("a",), "requested": ("a", "b")}, ("a",)),
        ({"granted": (), "requested": ("a",)}, ()),
        ({"requested": ("a", "b")}, ("a", "b")),
        ({}, None),
    ],
)
async def test_grants_are_what_is_known_of_them(app, runtime, grants, stored):
    """An absent scope is the one that was asked for (RFC 6749 §5.1); where nobody knows, nothing is claimed."""
    tokens = TokenImport(access_token=SecretStr("token-0123456789"), **grants)
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, account="a", verify=False)
    assert (await app.stored(runtime, made.connection.id))[1].granted == stored


@pytest.mark.parametrize(
    "fields",
    [
        {"access_token": SecretStr("")},
        {"access_token": "plain"},
        {"access_token": None},
        {"refresh_token": SecretStr("")},
        {"expires_at": datetime(2030, 1, 1)},
        {"expires_at": "2030-01-01T00:00:00Z"},
        {"granted": ["a"]},
        {"granted": "a b"},
        {"requested": None},
        {"requested": ("",)},
        {"extra": {"a": "plain"}},
    ],
    ids=repr,
)
def test_tokens_of_another_shape_are_refused(fields):
    with pytest.raises(BadInput) as refused:
        TokenImport(**{"access_token": SecretStr("x"), **fields})
    assert refused.value.field in fields


# --- the lines of a file -------------------------------------------------------------------------------------------


def line(**fields):
    whole = {"provider": "sandbox", "scope": "user:u1", "access_token": "token-0123456789", **fields}
    return SecretStr(json.dumps({name: value for name, value in whole.items() if value is not None}))


def test_line_has_everything_that_another_system_knows():
    read = read_line(
        line(
            scope="org:acme",
            auth="oauth2_auth_code",
            account="42",
            refresh_token="r",
            id_token="i",
            token_type="Bearer",
            expires_at="2030-01-01T01:00:00+01:00",
            refresh_expires_at=1893456000,
            granted=["a", "b"],
            requested=["a"],
            extra={"instance_url": "https://x.example"},
        )
    )
    assert (read.provider, read.scope, read.auth, read.account) == (
        "sandbox", Scope("org", "acme"), "oauth2_auth_code", "42",
    )  # fmt: skip
    new_year = datetime(2030, 1, 1, tzinfo=UTC)
    assert read.tokens == TokenImport(
        access_token=SecretStr("token-0123456789"),
        refresh_token=SecretStr("r"),
        id_token=SecretStr("i"),
        token_type="Bearer",
        expires_at=new_year,
        refresh_expires_at=new_year,
        granted=("a", "b"),
        requested=("a",),
        extra={"instance_url": SecretStr("https://x.example")},
    )
    assert new_year - read.tokens.expires_at == timedelta(0)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"unknown": 1}, "unknown"),
        ({"provider": ""}, "provider"),
        ({"scope": None}, "scope"),
        ({"scope": "team:x"}, "scope.type"),
        ({"access_token": None}, "access_token"),
        ({"access_token": 7}, "access_token"),
        ({"account": 7}, "account"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": 1e300}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
        ({"granted": "a b"}, "granted"),
        ({"granted": [1]}, "granted"),
        ({"extra": {"a": 1}}, "extra"),
        ({"extra": "a"}, "extra"),
    ],
    ids=repr,
)
def test_wrong_member_is_named_and_no_value_is_repeated(wrong, field):
    """P41: not in the message, and not among the locals of the frames that the error was raised in."""
    with pytest.raises(BadInput) as refused:
        read_line(line(refresh_token="refresh-0123456789", **wrong))
    assert refused.value.field == field
    shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    assert "refresh-0123456789" not in shown.partition("read_line(")[2].partition("def ")[2]
    frames = [entry for entry in traceback.extract_tb(refused.value.__traceback__) if "transfer.py" in entry.filename]
    assert frames
    for tb_frame, _ in traceback.walk_tb(refused.value.__traceback__):
        if tb_frame.f_code.co_filename.endswith("transfer.py"):
            assert "refresh-0123456789" not in repr(tb_frame.f_locals)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"a": "\\ud800"}', '{"a": "\udcff"}', "[" * 100_000])
def test_line_that_is_no_object_in_utf_8_is_refused(text):
    with pytest.raises(BadInput, match="not a JSON object"):
        read_line(SecretStr(text))


async def test_tokens_that_are_dead_leave_a_connection_that_waits_for_consent_as_it_is(app, runtime):
    tokens = await elsewhere(app)
    made = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens)
    for secret in app.secrets("sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired):
        await runtime.refresh(made.connection.id)
    again = await runtime.import_connection("sandbox", scope=WHO, tokens=tokens, account=made.account, verify=False)
    assert (again.outcome, again.connection.status) == ("unchanged", "pending_reauth")
