"""ID tokens: every rule of OpenID Connect Core §3.1.3.7, and every attack on it."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_auth_jwt.algorithms import ALGORITHMS
from go_services_auth_jwt.base64url import encode
from go_services_auth_jwt.id_token import IdToken, verify_id_token
from go_services_auth_jwt.jwk import Jwk, JwkSet
from go_services_auth_jwt.jws import sign_claims
from go_services_core.errors import BadInput, JwtInvalid, JwtKeyUnknown
from go_services_core.secret import SecretStr

from . import vectors
from .keys import ASYMMETRIC, NOW, private, public_pem, published

ISSUER = "https://issuer.example"
MOMENT = int(NOW.timestamp())
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": "my-app",
    "exp": MOMENT + 300,
    "iat": MOMENT - 5,
    "nonce": "n-0S6_WzA2Mj",
}
KEYS = JwkSet.from_dict({"keys": [published("RS256", kid="k1", alg="RS256", use="sig")]})


def token(key: Jwk | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token of the issuer; a change of None leaves the claim out."""
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return sign_claims(claims, key or private("RS256", kid="k1"), header=header)


def check(text: str, jwks: JwkSet = KEYS, **more: Any) -> IdToken:
    given: dict[str, Any] = {"issuer": ISSUER, "client_id": "my-app", "now": NOW, "nonce": CLAIMS["nonce"]}
    return verify_id_token(SecretStr(text), jwks, **{**given, **more})


def refused(text: str, jwks: JwkSet = KEYS, **more: Any) -> JwtInvalid:
    with pytest.raises(JwtInvalid) as caught:
        check(text, jwks, **more)
    return caught.value


def test_good_token_is_read() -> None:
    read = check(token(email="alice@example.com"))
    assert (read.issuer, read.subject, read.audience) == (ISSUER, "alice", ("my-app",))
    assert read.expires_at == datetime.fromtimestamp(MOMENT + 300, UTC)
    assert read.issued_at == datetime.fromtimestamp(MOMENT - 5, UTC)
    assert read.claims["email"] == "alice@example.com"
    assert "alice@" not in repr(read)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_token_is_read_under_each_allowed_algorithm(algorithm: str) -> None:
    keys = JwkSet.from_dict({"keys": [published(algorithm, kid="k1")]})
    text = token(private(algorithm, kid="k1"))
    assert check(text, keys, algorithms=(algorithm,)).subject == "alice"
    others = [name for name in ASYMMETRIC if name != algorithm]
    assert refused(text, keys, algorithms=others).field == "alg"


# --- attacks -------------------------------------------------------------------------------------------------------


def test_unsigned_token_is_refused() -> None:
    for name in ("none", "None", "NONE"):
        head, body = (encode(json.dumps(part).encode()) for part in ({"alg": name}, CLAIMS))
        for signature in ("", "AA", token().rpartition(".")[2]):
            assert refused(f"{head}.{body}.{signature}").field == "alg"


def test_token_signed_with_hs256_under_the_public_key_is_refused() -> None:
    head = encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    body = encode(json.dumps(CLAIMS).encode())
    jwk_text = json.dumps(published("RS256", kid="k1")).encode()
    for secret in (public_pem("RS256").encode(), public_pem("RS256").strip().encode(), jwk_text, b""):
        signature = encode(ALGORITHMS["HS256"].sign(secret, f"{head}.{body}".encode()))
        assert refused(f"{head}.{body}.{signature}").field == "alg"
    with pytest.raises(BadInput, match="HS256"):
        check(token(), algorithms=("HS256", "RS256"))
    with pytest.raises(BadInput, match="none"):
        check(token(), algorithms=("none",))


def test_replaced_signature_is_refused() -> None:
    head, body, _ = token().split(".")
    other = token(sub="mallory").rpartition(".")[2]
    assert refused(f"{head}.{body}.{other}").field == "signature"
    changed = encode(json.dumps({**CLAIMS, "sub": "mallory"}).encode())
    assert refused(f"{head}.{changed}.{token().rpartition('.')[2]}").field == "signature"


def test_token_signed_by_one_key_and_naming_another_is_refused() -> None:
    keys = JwkSet.from_dict({"keys": [published("RS256", 0, kid="k1"), published("RS256", 1, kid="k2")]})
    error = refused(token(private("RS256", 1, kid="k1")), keys)
    assert error.field == "signature"
    assert not isinstance(error, JwtKeyUnknown)


def test_token_of_another_issuer_is_refused() -> None:
    for issuer in ("https://evil.example", ISSUER + "/", ISSUER.upper(), "", 5, [ISSUER], None):
        assert refused(token(iss=issuer)).field == "iss"


def test_token_for_another_client_is_refused() -> None:
    for audience in ("other-app", "MY-APP", "", [], ["other-app"], [["my-app"]], {"my-app": 1}, 5, None):
        assert refused(token(aud=audience)).field == "aud"


def test_token_of_another_request_is_refused() -> None:
    for nonce in ("another", "", CLAIMS["nonce"].upper(), 5, [CLAIMS["nonce"]], "\ud800"):
        text = token(nonce=nonce) if nonce != "\ud800" else with_raw(b'"nonce":"\\ud800"')
        assert refused(text).field == "nonce"
    assert "lacks the nonce" in refused(token(nonce=None)).message
    assert check(token(nonce=None), nonce=None).subject == "alice"


def with_raw(member: bytes, without: str = "nonce") -> str:
    """A rightly signed token whose last claim is written as given."""
    claims = json.dumps({name: value for name, value in CLAIMS.items() if name != without}).encode()[:-1]
    key = private("RS256", kid="k1")
    data = encode(b'{"alg":"RS256","kid":"k1"}')
    data = f"{data}.{encode(claims + b',' + member + b'}')}"
    return f"{data}.{encode(key.sign(data.encode()))}"


def test_claim_that_stands_twice_is_refused() -> None:
    assert refused(with_raw(b'"sub":"mallory"')).field == "payload"


# --- time ----------------------------------------------------------------------------------------------------------


def test_expired_token_is_refused_with_the_leeway_to_the_second() -> None:
    assert check(token(exp=MOMENT - 59)).subject == "alice"
    assert refused(token(exp=MOMENT - 60)).field == "exp"
    assert refused(token(exp=MOMENT), leeway=0).field == "exp"
    assert check(token(exp=MOMENT + 1), leeway=0).subject == "alice"


def test_token_from_the_future_is_refused() -> None:
    assert check(token(iat=MOMENT + 60)).subject == "alice"
    assert refused(token(iat=MOMENT + 61)).field == "iat"
    assert check(token(nbf=MOMENT + 60)).subject == "alice"
    assert refused(token(nbf=MOMENT + 61)).field == "nbf"


@pytest.mark.parametrize("name", ["exp", "iat"])
def test_times_that_every_token_has_are_required(name: str) -> None:
    error = refused(token(**{name: None}))
    assert (error.field, f"no {name}" in error.message) == (name, True)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1", True, [], {}, -1, 10**400, 253_402_300_800, "soon"])
def test_time_that_is_none_is_refused(name: str, value: Any) -> None:
    assert refused(token(**{name: value})).field == name


def test_time_beyond_every_number_is_refused() -> None:
    assert refused(with_raw(b'"exp":1e999', without="exp")).field == "exp"


def test_times_may_have_fractions() -> None:
    assert check(token(exp=MOMENT + 0.5, iat=MOMENT - 0.5)).issued_at < NOW


# --- audiences, subject, hashes ------------------------------------------------------------------------------------


def test_several_audiences_need_trust_and_the_party_that_asked() -> None:
    both = ["my-app", "api"]
    assert check(token(aud=["my-app"])).audience == ("my-app",)
    assert refused(token(aud=both, azp="my-app")).field == "aud"
    assert check(token(aud=both, azp="my-app"), trusted_audiences=("api",)).audience == ("my-app", "api")
    assert refused(token(aud=both), trusted_audiences=("api",)).field == "azp"


def test_other_authorized_party_is_refused() -> None:
    for party in ("other-app", "", 5, ["my-app"]):
        assert refused(token(azp=party)).field == "azp"
    assert check(token(azp="my-app")).subject == "alice"


def test_token_must_say_whose_it_is() -> None:
    for subject in ("", " ", "a" * 256, 5, ["alice"], "ä", None):
        assert refused(token(sub=subject)).field == "sub"
    assert check(token(sub="a" * 255)).subject == "a" * 255


def test_hashes_of_the_specification_are_accepted_and_others_refused() -> None:
    """OpenID Connect Core §3.1.3.8 and §3.3.2.11."""
    access, at_hash = vectors.AT_HASH
    code, c_hash = vectors.C_HASH
    text = token(at_hash=at_hash, c_hash=c_hash)
    assert check(text, access_token=SecretStr(access), code=SecretStr(code)).subject == "alice"
    assert refused(text, access_token=SecretStr(access + "x")).field == "at_hash"
    assert refused(text, code=SecretStr("another")).field == "c_hash"
    assert refused(token(at_hash=5), access_token=SecretStr(access)).field == "at_hash"
    assert check(token(), access_token=SecretStr(access), code=SecretStr(code)).subject == "alice"


@pytest.mark.parametrize(("algorithm", "size"), [("ES256", 16), ("ES384", 24), ("EdDSA", 32), ("PS256", 16)])
def test_hash_follows_the_algorithm_of_the_token(algorithm: str, size: int) -> None:
    name = {16: "sha256", 24: "sha384", 32: "sha512"}[size]
    half = encode(hashlib.new(name, b"the-token").digest()[:size])
    keys = JwkSet.from_dict({"keys": [published(algorithm, kid="k1")]})
    text = token(private(algorithm, kid="k1"), at_hash=half)
    assert check(text, keys, algorithms=(algorithm,), access_token=SecretStr("the-token")).subject == "alice"


# --- keys ----------------------------------------------------------------------------------------------------------


def test_rotated_key_is_an_outcome_of_its_own_and_the_new_set_settles_it() -> None:
    text = token(private("RS256", 1, kid="k2"))
    assert isinstance(refused(text), JwtKeyUnknown)
    renewed = JwkSet.from_dict({"keys": [published("RS256", kid="k1"), published("RS256", 1, kid="k2")]})
    assert check(text, renewed).subject == "alice"


def test_token_without_key_id_is_read_with_the_only_key_for_it() -> None:
    text = token(private("RS256"))
    assert check(text).subject == "alice"
    mixed = JwkSet.from_dict({"keys": [published("ES256"), published("RS256")]})
    assert check(text, mixed).subject == "alice"
    assert refused(text, JwkSet.from_dict({"keys": [published("RS256"), published("RS256", 1)]})).field == "kid"
    assert isinstance(refused(text, JwkSet(keys=())), JwtKeyUnknown)


def test_token_of_another_type_is_refused() -> None:
    """RFC 8725 §3.11: an access token (RFC 9068) or a logout token is no ID token."""
    for name in ("at+jwt", "application/at+jwt", "logout+jwt", "dpop+jwt", 5):
        assert refused(token(header={"typ": name})).field == "typ"
    for name in ("JWT", "jwt", "application/jwt"):
        assert check(token(header={"typ": name})).subject == "alice"


def test_refusal_shows_nothing_of_the_token() -> None:
    for text in (token(iss="https://evil.example"), token(nonce="wrong-nonce"), token(sub=""), token()[:-5]):
        error = refused(text)
        shown = f"{error} {error.as_dict()}"
        assert not [part for part in ("evil", "wrong-nonce", "alice", *text.split(".")) if part in shown]


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "azp"]), JSON_VALUES, min_size=1))
def test_any_claims_are_read_or_refused_with_the_typed_error(changes: dict[str, Any]) -> None:
    try:
        text = token(**changes)
    except BadInput:
        return  # JSON cannot hold it
    with suppress(JwtInvalid):
        read = check(text)
        assert (read.issuer, "my-app" in read.audience) == (ISSUER, True)
