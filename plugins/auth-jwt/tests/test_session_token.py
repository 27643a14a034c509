"""Session tokens of embedded apps, and the signer that keeps their tokens at their shop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_auth_jwt.jwk import Jwk
from go_services_auth_jwt.jws import sign_claims
from go_services_auth_jwt.records import SessionTokenExchange
from go_services_auth_jwt.session_token import SessionToken, is_allowed, read_session_token, token_url
from go_services_auth_jwt.shop_token import ShopTokenSigner
from go_services_core.auth_specs import PersonalToken
from go_services_core.errors import EmbeddedSessionInvalid, KeyInvalid, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.signer import SignerSubject
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.pytest_kit import SignerKit

from .keys import NOW, SECRET

RECORD = SessionTokenExchange()
MOMENT = int(NOW.timestamp())
SHOP = "acme.myshopify.com"


def read(token: str, **changes: Any) -> SessionToken:
    given_: dict[str, Any] = {"client_id": "app", "client_secret": SecretStr(SECRET), "now": NOW, **changes}
    return read_session_token(SecretStr(token), given_.pop("record", RECORD), **given_)


def signed(**changes: Any) -> str:
    claims = {
        "iss": f"https://{SHOP}/admin", "dest": f"https://{SHOP}", "aud": "app", "sub": "42", "exp": MOMENT + 60,
        "nbf": MOMENT, "iat": MOMENT, "jti": "j-1", "sid": "s-1", **changes,
    }  # fmt: skip
    return sign_claims(claims, Jwk.from_secret(SecretStr(SECRET)))


def test_token_says_which_shop_and_who_and_does_not_print_its_id() -> None:
    token = read(signed())
    assert token == SessionToken(shop=SHOP, subject="42", id="j-1", expires_at=MOMENT + 60)
    assert "j-1" not in repr(token)
    assert token_url(token.shop, RECORD) == f"https://{SHOP}/admin/oauth/access_token"


@pytest.mark.parametrize(
    "shop",
    [
        "myshopify.com",
        "evil.example",
        "acme.myshopify.com.evil.example",
        "acme.myshopify.com:8443",
        "evil.example;.myshopify.com",
        "a_b.myshopify.com",
        "acme.myshopify.com/x",
        "user@acme.myshopify.com",
        "",
    ],
)
def test_shop_on_another_host_is_no_shop(shop: str) -> None:
    assert not is_allowed(shop, RECORD)
    with pytest.raises(EmbeddedSessionInvalid) as refused:
        read(signed(dest=f"https://{shop}", iss=f"https://{shop}/admin"))
    assert refused.value.field == "dest"


def test_record_of_one_shop_takes_no_other() -> None:
    record = SessionTokenExchange(shop_url=f"https://{SHOP}")
    assert read(signed(), record=record).shop == SHOP
    with pytest.raises(EmbeddedSessionInvalid):
        read(signed(dest="https://b.myshopify.com", iss="https://b.myshopify.com/admin"), record=record)


@pytest.mark.parametrize(("seconds", "good"), [(69, True), (71, False), (-9, True), (-11, False)])
def test_clocks_may_differ_by_the_leeway(seconds: int, good: bool) -> None:
    if good:
        read(signed(), now=NOW + timedelta(seconds=seconds))
    else:
        with pytest.raises(EmbeddedSessionInvalid):
            read(signed(), now=NOW + timedelta(seconds=seconds))


def test_secret_that_is_too_short_to_sign_with_is_an_error_of_its_own() -> None:
    with pytest.raises(KeyInvalid):
        read(signed(), client_secret=SecretStr("short"))


@given(token=st.text(max_size=80))
def test_no_text_fails_untyped(token: str) -> None:
    with suppress(EmbeddedSessionInvalid):
        read(token)


def key(record: Any = RECORD, **extra: SecretStr) -> SigningKey:
    tokens = TokenSet(access_token=SecretStr("shpat_0123456789"), extra=extra)
    credential = Credential(connection_id="c", version=1, auth_kind=record.kind, tokens=tokens)
    return SigningKey(secret=tokens.access_token, auth=record, credential=credential)


class TestShopToken(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        request = HttpRequest("POST", f"https://{SHOP}/admin/api?x=1", (("Accept", "*/*"),), b"{}", 3.0, 1000)
        yield SignerSubject(ShopTokenSigner(), key(shop=SecretStr(SHOP)), request)


@pytest.mark.parametrize(
    ("signing", "url"),
    [
        (key(shop=SecretStr(SHOP)), "https://b.myshopify.com/"),
        (key(shop=SecretStr(SHOP)), f"https://{SHOP}:8443/"),
        (key(), f"https://{SHOP}/"),
        (key(PersonalToken(), shop=SecretStr(SHOP)), f"https://{SHOP}/"),
    ],
)
def test_token_is_put_on_no_request_to_another_host(signing: SigningKey, url: str) -> None:
    """P35."""
    with pytest.raises(SigningError) as refused:
        ShopTokenSigner().sign(HttpRequest("GET", url), signing, SigningContext(NOW, FrozenClock().random))
    assert "shpat" not in str(refused.value)
