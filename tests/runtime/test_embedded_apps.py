"""An embedded app's session token becomes a stored connection, once."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from go_services_core import HttpRequest, Runtime, Scope
from go_services_core.errors import (
    BadInput,
    EmbeddedExchangeFailed,
    EmbeddedSessionInvalid,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    ReplayDetected,
    ServicesError,
    SigningError,
)
from go_services_core.model import Connection
from go_services_core.secret import SecretStr

from .shop_server import CLIENT, EXCHANGE, SECRET, Shop, open_app, trading

ORG = Scope("org", "o1")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with trading() as running:
        yield running


@pytest.fixture
async def runtime(shop: Shop, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_app(shop, tmp_path) as opened:
        yield opened


async def establish(runtime: Runtime, token: str, **fields: str) -> Connection:
    return await runtime.establish("shop", scope=ORG, fields={"session_token": SecretStr(token), **fields})


async def test_session_token_becomes_a_connection_of_the_shop_that_calls_it(shop: Shop, runtime: Runtime) -> None:
    token = shop.session_token()
    connection = await establish(runtime, token)
    assert (connection.status, connection.external_account_id) == ("active", shop.host)
    assert shop.forms == [
        {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "grant_type": EXCHANGE,
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "requested_token_type": "urn:shopify:params:oauth:token-type:offline-access-token",
            "expiring": "1",
        }
    ]
    assert (await runtime.execute(connection.id, "shop.get")).data == {"name": "A shop"}
    assert shop.graphql == ["shpat_1"]
    _, row = await runtime._core.store.connections.load(connection.id)
    assert row is not None
    assert (row.granted, row.refreshable) == (("write_orders", "read_products"), True)
    assert row.refresh_expires_at is not None


async def test_next_session_token_of_the_shop_renews_the_same_connection(shop: Shop, runtime: Runtime) -> None:
    first = await establish(runtime, shop.session_token())
    again = await establish(runtime, shop.session_token())
    assert again.id == first.id
    assert await runtime.token(first.id) == SecretStr("shpat_2")


async def test_expiring_token_is_renewed_by_its_refresh_token(shop: Shop, runtime: Runtime) -> None:
    connection = await establish(runtime, shop.session_token())
    for number in (1, 2):
        await runtime.refresh(connection.id)
        assert shop.forms[-1] == {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "grant_type": "refresh_token",
            "refresh_token": f"shprt_{number}",
        }
        assert await runtime.token(connection.id) == SecretStr(f"shpat_{number + 1}")
    assert (await runtime.execute(connection.id, "shop.get")).status == 200


async def test_token_without_end_needs_a_new_session_token_to_be_renewed(shop: Shop, tmp_path: Path) -> None:
    async with open_app(shop, tmp_path, expiring=False) as runtime:
        connection = await establish(runtime, shop.session_token())
        assert "expiring" not in shop.forms[0]
        with pytest.raises(ReauthRequired, match="session token"):
            await runtime.refresh(connection.id)
        assert len(shop.forms) == 1
        assert (await runtime.connection(connection.id)).status == "active"


async def test_online_token_is_of_the_person_with_their_grants(shop: Shop, runtime: Runtime) -> None:
    connections = []
    for person in (42, 43):
        shop.person = person
        made = await establish(runtime, shop.session_token(), requested_token_type="online")
        assert made.external_account_id == f"{shop.host}|{person}"
        connections.append(made.id)
    offline = await establish(runtime, shop.session_token())
    assert len({*connections, offline.id}) == 3
    _, row = await runtime._core.store.connections.load(connections[0])
    assert row is not None
    assert (row.granted, row.refreshable) == (("read_products",), False)


async def test_token_of_another_person_is_not_kept(shop: Shop, runtime: Runtime) -> None:
    with pytest.raises(EmbeddedExchangeFailed) as refused:
        await establish(runtime, shop.session_token(sub="43"), requested_token_type="online")
    assert refused.value.field == "sub"
    assert (await runtime.connections()).items == ()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("iss", {"iss": "https://another.example/admin"}),
        ("iss", {"iss": None}),
        ("dest", {"dest": "https://evil.example"}),
        ("dest", {"dest": "http://user@127.0.0.1"}),
        ("dest", {"dest": 7}),
        ("dest", {"dest": "http://[::1"}),
        ("aud", {"aud": "another-app"}),
        ("aud", {"aud": ["another-app"]}),
        ("exp", {"exp": 1}),
        ("exp", {"exp": None}),
        ("exp", {"exp": int(time.time()) + 100_000}),
        ("nbf", {"nbf": int(time.time()) + 600}),
        ("nbf", {"nbf": "now"}),
        ("iat", {"iat": int(time.time()) + 600}),
        ("sub", {"sub": None}),
        ("jti", {"jti": None}),
        ("jti", {"jti": "a b"}),
        ("sid", {"sid": ""}),
        ("signature", {"secret": "another secret of the same length ....."}),
        ("alg", {"algorithm": "HS512"}),
    ],
)
async def test_unacceptable_session_token_asks_nobody_and_keeps_nothing(
    shop: Shop, runtime: Runtime, field: str, changes: dict[str, Any]
) -> None:
    token = shop.session_token(**changes)
    with pytest.raises(EmbeddedSessionInvalid) as refused:
        await establish(runtime, token)
    assert refused.value.field == field
    assert token not in "".join(traceback.format_exception(refused.value))
    assert shop.forms == []
    assert (await runtime.connections()).items == ()


async def test_audience_may_be_a_list_and_clocks_may_differ_a_little(shop: Shop, runtime: Runtime) -> None:
    now = int(time.time())
    await establish(runtime, shop.session_token(aud=[CLIENT], nbf=now + 5, iat=now + 5, iss=f"{shop.url}/admin/"))
    await establish(runtime, shop.session_token(exp=now - 3, dest=f"{shop.url}/"))
    assert len(shop.forms) == 2


async def test_session_token_works_once(shop: Shop, runtime: Runtime) -> None:
    token = shop.session_token()
    await establish(runtime, token)
    with pytest.raises(ReplayDetected):
        await establish(runtime, token)
    assert len(shop.forms) == 1


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"error": "invalid_subject_token"}, EmbeddedExchangeFailed),
        (200, {"error": "invalid_client"}, EmbeddedExchangeFailed),
        (200, {"hello": "there"}, EmbeddedExchangeFailed),
        (429, {}, RateLimited),
        (503, {}, ProviderUnavailable),
    ],
)
async def test_failed_exchange_uses_the_session_token_up_and_touches_no_connection(
    shop: Shop, runtime: Runtime, status: int, answer: dict[str, Any], error: type[ServicesError]
) -> None:
    connection = await establish(runtime, shop.session_token())
    shop.status, shop.answer = status, answer
    token = shop.session_token()
    with pytest.raises(error) as refused:
        await establish(runtime, token)
    assert not {token, SECRET} & set(str(refused.value).split())
    shop.status, shop.answer = 200, None
    with pytest.raises(ReplayDetected):
        await establish(runtime, token)
    assert (await runtime.connections()).items == (connection,)
    assert await runtime.token(connection.id) == SecretStr("shpat_1")


@pytest.mark.parametrize(
    ("field", "fields"),
    [("requested_token_type", {"requested_token_type": "both"}), ("shop", {"shop": "evil.example"})],
)
async def test_wrong_field_does_not_use_the_session_token_up(
    shop: Shop, runtime: Runtime, field: str, fields: dict[str, str]
) -> None:
    token = shop.session_token()
    with pytest.raises(BadInput) as refused:
        await establish(runtime, token, **fields)
    assert refused.value.field == field
    assert (await establish(runtime, token)).status == "active"


async def test_shop_that_was_expected_is_compared_with_the_token(shop: Shop, runtime: Runtime) -> None:
    token = shop.session_token()
    with pytest.raises(EmbeddedSessionInvalid) as refused:
        await establish(runtime, token, expected_shop="another.myshopify.com")
    assert refused.value.field == "expected_shop"
    assert (await establish(runtime, token, expected_shop=shop.host.upper())).status == "active"


async def test_token_of_one_shop_is_not_sent_to_another_host(shop: Shop, runtime: Runtime) -> None:
    """P35."""
    connection = await establish(runtime, shop.session_token())
    signed = await runtime.sign(connection.id, HttpRequest("GET", f"{shop.url}/admin/api/shop"))
    assert signed.header("X-Shopify-Access-Token") == "shpat_1"
    loaded = runtime._core.cache[connection.id]
    with pytest.raises(SigningError):
        loaded.signer.sign(
            HttpRequest("GET", "https://another.myshopify.com/x"), loaded.key, runtime._core.signing_context()
        )


async def test_shop_that_the_record_does_not_allow_any_more_gets_no_refresh_token(shop: Shop, tmp_path: Path) -> None:
    async with open_app(shop, tmp_path) as runtime:
        connection = await establish(runtime, shop.session_token())
        core = runtime._core
        from attrs import evolve

        instance = core.instances["shop"]
        record = evolve(instance.spec.auth[0], shop_url="https://*.myshopify.com")
        core.instances = {"shop": evolve(instance, spec=evolve(instance.spec, auth=(record,)))}
        with pytest.raises(ReauthRequired):
            await runtime.refresh(connection.id)
    assert len(shop.forms) == 1


async def test_there_is_no_consent_page(runtime: Runtime) -> None:
    with pytest.raises(BadInput, match="session_token"):
        await runtime.connect("shop", scope=ORG, redirect_uri="http://127.0.0.1/callback")
