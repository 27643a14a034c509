"""Signing and checking of compact JWS: published vectors, another implementation, and the attacks of RFC 8725."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwk as jose_jwk
from joserfc import jws as jose_jws

from go_services_auth_jwt import algorithms
from go_services_auth_jwt.algorithms import ALGORITHMS
from go_services_auth_jwt.base64url import decode, encode
from go_services_auth_jwt.jwk import Jwk, JwkSet
from go_services_auth_jwt.jws import MOST_BYTES, sign, sign_claims, verify
from go_services_core.errors import AuthError, BadInput, JwtInvalid, JwtKeyUnknown, KeyInvalid
from go_services_core.secret import SecretStr

from . import vectors
from .keys import ASYMMETRIC, SECRET, material, pem, private, public_pem, published

ALL = (*ASYMMETRIC, "HS256")
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # the peer's opinion of the name (RFC 9864)
JOSE = jose_jws.JWSRegistry(algorithms=list(ALL))


def public(algorithm: str, which: int = 0) -> Jwk:
    return Jwk.from_public_dict(published(algorithm, which, alg=algorithm))


def jose_key(algorithm: str) -> Any:
    if algorithm == "HS256":
        return jose_jwk.OctKey.import_key(SECRET)
    kind: Any = {
        "EdDSA": jose_jwk.OKPKey,
        "Ed25519": jose_jwk.OKPKey,
        "RS256": jose_jwk.RSAKey,
        "PS256": jose_jwk.RSAKey,
    }
    return kind.get(algorithm, jose_jwk.ECKey).import_key(pem(algorithm))


def refused(token: str, keys: Jwk | JwkSet, *algorithms: str, **more: Any) -> JwtInvalid:
    with pytest.raises(JwtInvalid) as caught:
        verify(token, keys, algorithms=algorithms or ALL, **more)
    return caught.value


def with_header(header: Any, payload: bytes = b"{}", signature: bytes = b"") -> str:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return f"{encode(head)}.{encode(payload)}.{encode(signature)}"


def resigned(header: bytes, key: Jwk, payload: bytes = b"{}") -> str:
    """A token with exactly this header, rightly signed."""
    data = f"{encode(header)}.{encode(payload)}"
    return f"{data}.{encode(key.sign(data.encode()))}"


# --- vectors -------------------------------------------------------------------------------------------------------


def from_members(members: dict[str, Any]) -> Jwk:
    return Jwk.from_text(SecretStr(json.dumps(members)))


def secret_of_rfc_7515() -> Jwk:
    raw = decode(vectors.OCT_A1)  # bytes that are no text, so no SecretStr can hold them
    return Jwk(key_type="oct", algorithm="HS256", fixed=True, private=raw, public=raw)


@pytest.mark.parametrize(
    ("members", "token", "algorithm", "payload"),
    [
        (vectors.RSA_A2, vectors.RS256_A2, "RS256", vectors.JOE),
        (vectors.EC_A3, vectors.ES256_A3, "ES256", vectors.JOE),
        (vectors.ED_8037, vectors.EDDSA_8037, "EdDSA", b"Example of Ed25519 signing"),
    ],
    ids=["RFC 7515 A.2", "RFC 7515 A.3", "RFC 8037 A.5"],
)
def test_published_token_is_verified_and_a_changed_one_is_not(
    members: dict[str, Any], token: str, algorithm: str, payload: bytes
) -> None:
    key = from_members(members)
    read = verify(token, key, algorithms=(algorithm,))
    assert (read.payload, read.algorithm, read.header) == (payload, algorithm, {"alg": algorithm})

    head, body, signature = token.split(".")
    swapped = "A" if signature[9] != "A" else "B"
    assert refused(f"{head}.{body}.{signature[:9]}{swapped}{signature[10:]}", key).field == "signature"
    assert refused(f"{head}.{encode(payload + b' ')}.{signature}", key).field == "signature"


def test_published_hmac_token_is_verified() -> None:
    assert verify(vectors.HS256_A1, secret_of_rfc_7515(), algorithms=("HS256",)).payload == vectors.JOE


@pytest.mark.parametrize(
    ("key", "token"),
    [
        (from_members(vectors.RSA_A2), vectors.RS256_A2),
        (from_members(vectors.ED_8037), vectors.EDDSA_8037),
        (secret_of_rfc_7515(), vectors.HS256_A1),
    ],
    ids=["RFC 7515 A.2", "RFC 8037 A.4", "RFC 7515 A.1"],
)
def test_signature_is_the_published_one(key: Jwk, token: str) -> None:
    data, _, signature = token.rpartition(".")
    assert encode(key.sign(data.encode())) == signature


def test_whole_token_is_the_published_one() -> None:
    assert sign(vectors.JOE, from_members(vectors.RSA_A2)) == vectors.RS256_A2
    assert sign(b"Example of Ed25519 signing", from_members(vectors.ED_8037)) == vectors.EDDSA_8037


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA", "HS256"])
def test_signing_is_a_function_of_key_and_bytes(algorithm: str) -> None:
    """ECDSA too (RFC 6979); only PS256 salts."""
    assert sign(b"same", private(algorithm)) == sign(b"same", private(algorithm))


# --- another implementation ----------------------------------------------------------------------------------------

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("algorithm", ALL)
@QUICK
@given(payload=st.binary(max_size=300), kid=st.text(max_size=20))
def test_joserfc_reads_what_we_sign(algorithm: str, payload: bytes, kid: str) -> None:
    read = jose_jws.deserialize_compact(
        sign(payload, private(algorithm), header={"kid": kid}), jose_key(algorithm), registry=JOSE
    )
    assert read.payload == payload
    assert read.headers() == {"alg": algorithm, "kid": kid}


@pytest.mark.parametrize("algorithm", ALL)
@QUICK
@given(payload=st.binary(max_size=300), kid=st.text(max_size=20))
def test_we_read_what_joserfc_signs(algorithm: str, payload: bytes, kid: str) -> None:
    token = jose_jws.serialize_compact({"alg": algorithm, "kid": kid}, payload, jose_key(algorithm), registry=JOSE)
    key = private(algorithm) if algorithm == "HS256" else public(algorithm)
    read = verify(token, key, algorithms=(algorithm,))
    assert (read.payload, read.header["kid"]) == (payload, kid)


@QUICK
@given(data=st.data())
def test_token_with_any_changed_character_is_refused(data: st.DataObject) -> None:
    token = sign(b'{"sub":"alice"}', private("ES256"))
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters(codec="utf-8").filter(lambda found: found != token[place]))
    refused(token[:place] + character + token[place + 1 :], public("ES256"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"{encode(raw)}.e30.AA"))
def test_nonsense_is_refused_with_the_typed_error_and_never_another(text: str) -> None:
    refused(text, public("ES256"))


@given(value=st.binary(max_size=64))
def test_base64url_has_one_form_per_value(value: bytes) -> None:
    assert decode(encode(value)) == value
    assert "=" not in encode(value)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_unsigned_token_is_refused_even_if_a_caller_allows_it(name: str) -> None:
    assert refused(vectors.NONE_A5, public("RS256")).field == "alg"
    assert refused(vectors.NONE_A5, JwkSet.from_dict({"keys": [published("RS256")]}), "none", "RS256").field == "alg"
    assert refused(with_header({"alg": name}), public("RS256"), "none", name, "RS256").field == "alg"


def test_public_key_is_not_taken_as_hmac_secret() -> None:
    """RFC 8725 §2.1: the attacker signs with HS256 under the text of the RSA public key."""
    text = public_pem("RS256").encode()
    head = encode(json.dumps({"alg": "HS256"}).encode())
    data = f"{head}.{encode(b'{}')}"
    forged = f"{data}.{encode(ALGORITHMS['HS256'].sign(text, data.encode()))}"
    assert refused(forged, public("RS256")).field == "alg"
    assert refused(forged, Jwk.from_public_pem(public_pem("RS256")), "HS256", "RS256").field == "alg"
    named = JwkSet.from_dict({"keys": [published("RS256")]})
    assert refused(forged, named, "HS256", "RS256").field == "kid"


@pytest.mark.parametrize("algorithm", ALL)
def test_algorithm_that_the_caller_does_not_allow_is_refused(algorithm: str) -> None:
    key = private(algorithm)
    others = tuple(name for name in ALL if name != algorithm)
    assert refused(sign(b"{}", key), key, *others).field == "alg"


def test_key_of_one_algorithm_checks_no_other_of_its_type() -> None:
    token = sign(b"{}", private("PS256"))
    assert refused(token, public("RS256")).field == "alg"
    assert verify(token, Jwk.from_public_dict(published("RS256")), algorithms=ALL).algorithm == "PS256"


@pytest.mark.parametrize("algorithm", ["RS512", "ES512", "ES256K", "HS512", "", 5, None, ["RS256"]])
def test_unknown_algorithm_is_refused(algorithm: Any) -> None:
    assert refused(with_header({"alg": algorithm}), public("RS256"), *ALL, "RS512").field == "alg"


@pytest.mark.parametrize("critical", [["exp"], ["b64"], [], "exp", None])
def test_critical_extension_is_refused_although_the_signature_is_right(critical: Any) -> None:
    header = json.dumps({"alg": "ES256", "crit": critical, "b64": False, "exp": 1}).encode()
    assert refused(resigned(header, private("ES256")), public("ES256")).field == "crit"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"ES256"}',
        b'{"alg":"ES256","kid":"a","kid":"b"}',
        b'{"alg":"ES256","x":{"a":1,"a":2}}',
        b'{"alg":"ES256","x":NaN}',
        b'["ES256"]',
        b'"ES256"',
        b'{"alg":"ES256"',
        b"\xff\xfe",
        b"",
        b'{"alg":"ES256","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_header_that_can_be_read_in_two_ways_or_not_at_all_is_refused(header: bytes) -> None:
    assert refused(resigned(header, private("ES256")), public("ES256")).field == "header"


@pytest.mark.parametrize("payload", [b'{"a":1,"a":2}', b"[]", b"\xff", b'{"exp":Infinity}', b"text"])
def test_claims_that_can_be_read_in_two_ways_or_not_at_all_are_refused(payload: bytes) -> None:
    read = verify(sign(payload, private("ES256")), public("ES256"), algorithms=("ES256",))
    with pytest.raises(JwtInvalid) as caught:
        read.claims()
    assert caught.value.field == "payload"


def test_token_over_the_limit_is_refused_before_it_is_read() -> None:
    token = sign(b"x" * MOST_BYTES, private("ES256"))
    assert "longer" in refused(token, public("ES256")).message
    assert verify(token, public("ES256"), algorithms=("ES256",), limit=2 * MOST_BYTES).payload
    assert "longer" in refused(sign(b"{}", private("ES256")), public("ES256"), limit=20).message


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace(".", "=.", 1),
        lambda token: token + "AAA",
        lambda token: token + ".",
        lambda token: token.rpartition(".")[0],
        lambda token: token.replace("-", "+").replace("_", "/") + "+",
        lambda token: "",
        lambda token: "é" + token,
    ],
)
def test_token_in_another_than_the_strict_form_is_refused(change: Any) -> None:
    assert refused(change(sign(b"{}", private("ES256"))), public("ES256")).field == "token"


def test_bits_that_no_byte_uses_must_be_zero() -> None:
    """Else one signature has four forms, and what was seen once is not known again."""
    token = sign(b"{}", private("ES256"))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    neighbour = alphabet[alphabet.index(token[-1]) ^ 1]  # 64 bytes end with 4 unused bits
    assert refused(token[:-1] + neighbour, public("ES256")).field == "token"


def test_encrypted_token_is_named_as_such() -> None:
    assert "encrypted" in refused("e30.AA.AA.AA.AA", public("ES256")).message


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_ecdsa_signature_of_another_length_is_refused(size: int) -> None:
    assert refused(with_header({"alg": "ES256"}, signature=bytes(size)), public("ES256")).field == "signature"


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS256", "PS256"])
def test_signature_of_zeros_is_refused(algorithm: str) -> None:
    """CVE-2022-21449: r = s = 0 verified under any key."""
    size = {"ES256": 64, "ES384": 96, "EdDSA": 64}.get(algorithm, 256)
    assert refused(with_header({"alg": algorithm}, signature=bytes(size)), public(algorithm)).field == "signature"


def test_ecdsa_signature_with_a_longer_number_is_refused() -> None:
    """The same two numbers written otherwise would be a second signature of the same token."""
    token = sign(b"{}", private("ES256"))
    data, _, signature = token.rpartition(".")
    r, s = decode(signature)[:32], decode(signature)[32:]
    assert verify(f"{data}.{encode(r + s)}", public("ES256"), algorithms=ALL)
    assert refused(f"{data}.{encode(r + bytes(1) + s)}", public("ES256")).field == "signature"


def test_der_form_of_an_ecdsa_signature_is_refused() -> None:
    data = f"{encode(json.dumps({'alg': 'ES256'}).encode())}.{encode(b'{}')}"
    der = material("ES256").sign(data.encode(), ec.ECDSA(hashes.SHA256()))
    assert refused(f"{data}.{encode(der)}", public("ES256")).field == "signature"


def test_key_in_the_header_is_not_used() -> None:
    attacker = private("ES256", 1)
    for extra in ({"jwk": attacker.public_members()}, {"jku": "https://evil.example/jwks"}, {"x5c": ["AA"]}):
        assert refused(sign(b"{}", attacker, header=extra), public("ES256")).field == "signature"


# --- choosing the key ----------------------------------------------------------------------------------------------


def test_key_is_found_by_its_id_and_another_key_of_the_set_is_not_tried() -> None:
    keys = JwkSet.from_dict({"keys": [published("ES256", 0, kid="a"), published("ES256", 1, kid="b")]})
    read = verify(sign(b"1", private("ES256", 1, kid="b")), keys, algorithms=("ES256",))
    assert read.key.kid == "b"
    assert refused(sign(b"1", private("ES256", 1, kid="a")), keys).field == "signature"


def test_unknown_key_id_is_an_outcome_of_its_own() -> None:
    keys = JwkSet.from_dict({"keys": [published("ES256", kid="a")]})
    assert isinstance(refused(sign(b"1", private("ES256", kid="new")), keys), JwtKeyUnknown)
    assert isinstance(refused(sign(b"1", private("EdDSA")), keys), JwtKeyUnknown)
    assert not isinstance(refused(sign(b"1", private("ES256", 1, kid="a")), keys), JwtKeyUnknown)
    assert issubclass(JwtKeyUnknown, AuthError)


def test_token_without_a_key_id_needs_a_set_with_one_key_for_it() -> None:
    one = JwkSet.from_dict({"keys": [published("ES256", kid="a"), published("RS256", kid="b")]})
    assert verify(sign(b"1", private("ES256")), one, algorithms=ALL).key.kid == "a"
    two = JwkSet.from_dict({"keys": [published("ES256", kid="a"), published("ES256", 1, kid="b")]})
    assert refused(sign(b"1", private("ES256")), two).field == "kid"


def test_keys_of_one_id_are_told_apart_by_type() -> None:
    """RFC 7517 §4.5."""
    keys = JwkSet.from_dict({"keys": [published("RS256", kid="a"), published("ES256", kid="a")]})
    for algorithm in ("RS256", "ES256"):
        assert verify(sign(b"1", private(algorithm, kid="a")), keys, algorithms=ALL).algorithm == algorithm
    assert refused(sign(b"1", private("EdDSA", kid="a")), keys).field == "alg"


def test_key_id_that_is_no_text_is_refused() -> None:
    keys = JwkSet.from_dict({"keys": [published("ES256", kid="a")]})
    assert refused(with_header({"alg": "ES256", "kid": ["a"]}), keys).field == "kid"


# --- type and signing ----------------------------------------------------------------------------------------------


def test_type_is_compared_without_case_and_prefix() -> None:
    for name in ("JWT", "jwt", "application/JWT"):
        verify(sign(b"1", private("ES256"), header={"typ": name}), public("ES256"), algorithms=ALL, typ=("jwt",))
    plain = sign(b"1", private("ES256"))
    assert refused(plain, public("ES256"), typ=("jwt",)).field == "typ"
    assert verify(plain, public("ES256"), algorithms=ALL, typ=("", "jwt"))
    assert refused(sign_claims({}, private("ES256"), header={"typ": "at+jwt"}), public("ES256"), typ=("jwt",))


def test_header_that_the_key_decides_cannot_be_given() -> None:
    for name in ("alg", "crit", "b64"):
        with pytest.raises(BadInput) as caught:
            sign(b"1", private("ES256"), header={name: "none"})
        assert caught.value.field == "header"
    for bad in ({"x": float("nan")}, {"x": "\ud800"}, {"x": object()}):
        with pytest.raises(BadInput):
            sign_claims(bad, private("ES256"))


def test_public_key_signs_nothing() -> None:
    with pytest.raises(KeyInvalid):
        sign(b"1", public("ES256"))


def test_refusal_shows_nothing_of_the_token() -> None:
    token = sign(b'{"email":"alice@example.com"}', private("ES256", 1, kid="the-key-of-another"))
    error = refused(token, public("ES256"))
    shown = f"{error} {error.as_dict()}"
    assert not [part for part in (*token.split("."), "alice", "the-key-of-another") if part in shown]
    assert error.plugin == "auth-jwt"


def test_ecdsa_signs_also_where_openssl_cannot_do_it_without_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL before 3.2."""
    real = ec.ECDSA

    def old(digest: Any, deterministic_signing: bool = False) -> Any:
        if deterministic_signing:
            raise UnsupportedAlgorithm("not in this OpenSSL")
        return real(digest)

    monkeypatch.setattr(algorithms.ec, "ECDSA", old)
    made = algorithms._ecdsa("ES256", "P-256", hashes.SHA256(), 32)
    signatures = {made.sign(material("ES256"), b"data") for _ in range(2)}
    assert len(signatures) == 2
    for signature in signatures:
        made.check(material("ES256").public_key(), b"data", signature)
