"""Keys from every form that people and providers have them in, and what is no key for here."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from contextlib import suppress
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as jose_jwk

from go_services_auth_jwt import jwk as module
from go_services_auth_jwt.base64url import decode, encode
from go_services_auth_jwt.jwk import MOST_KEYS, Jwk, JwkSet, certificate_thumbprint, generate_ec_key
from go_services_core.errors import KeyInvalid
from go_services_core.secret import SecretStr

from . import vectors
from .keys import ASYMMETRIC, SECRET, certificate, encrypted_pem, pem, private, public_pem, published

TRADITIONAL = PrivateFormat.TraditionalOpenSSL


def load(text: str, **more: Any) -> Jwk:
    return Jwk.from_text(SecretStr(text), **more)


def refused(text: str, **more: Any) -> KeyInvalid:
    with pytest.raises(KeyInvalid) as caught:
        load(text, **more)
    return caught.value


def pem_of(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


# --- private keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "form", "begins"),
    [
        ("RS256", PrivateFormat.PKCS8, "-----BEGIN PRIVATE KEY-----"),
        ("RS256", TRADITIONAL, "-----BEGIN RSA PRIVATE KEY-----"),
        ("ES256", PrivateFormat.PKCS8, "-----BEGIN PRIVATE KEY-----"),
        ("ES256", TRADITIONAL, "-----BEGIN EC PRIVATE KEY-----"),
        ("ES384", TRADITIONAL, "-----BEGIN EC PRIVATE KEY-----"),
        ("EdDSA", PrivateFormat.PKCS8, "-----BEGIN PRIVATE KEY-----"),
    ],
)
def test_pem_is_read_in_every_form_and_says_the_algorithm(algorithm: str, form: PrivateFormat, begins: str) -> None:
    text = pem(algorithm, 0, form)
    assert text.startswith(begins)
    for written in (text, text.replace("\n", "\\n"), f"\n {text}\n", text.replace("\n", "\r\n")):
        key = load(written)
        assert (key.algorithm, key.is_private) == (algorithm, True)
        assert key.matches(private(algorithm))


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_private_jwk_of_another_implementation_is_read(algorithm: str) -> None:
    kinds: dict[str, Any] = {"R": jose_jwk.RSAKey, "P": jose_jwk.RSAKey, "E": jose_jwk.OKPKey}
    kind = jose_jwk.ECKey if algorithm.startswith("ES") else kinds[algorithm[0]]
    members = kind.import_key(pem(algorithm)).as_dict(private=True)
    key = load(json.dumps({**members, "alg": algorithm, "kid": "k1"}))
    assert (key.algorithm, key.kid, key.fixed) == (algorithm, "k1", True)
    assert key.matches(private(algorithm))
    assert load(json.dumps(members), kid="k2").kid == "k2"


def test_algorithm_is_fixed_by_who_loads_the_key_and_must_fit_it() -> None:
    assert load(pem("RS256"), algorithm="PS256").algorithm == "PS256"
    assert not load(pem("RS256"), algorithm="PS256").allows("RS256")
    assert "cannot be used with ES256" in refused(pem("RS256"), algorithm="ES256").message
    assert "cannot be used with ES384" in refused(pem("ES256"), algorithm="ES384").message
    members = json.dumps({**vectors.EC_A3, "alg": "ES256"})
    assert "cannot be used" in refused(members, algorithm="EdDSA").message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a private key"),
        ("hunter2", "not a private key"),
        (public_pem("RS256"), "not a private key"),
        (encrypted_pem(), "encrypted"),
        (pem("RS256")[:400], "not a private key"),
        (pem("RS256").replace("BEGIN PRIVATE", "BEGIN CERTIFICATE"), "not a private key"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (pem_of(ec.generate_private_key(ec.SECP521R1())), "type"),
        (pem_of(ec.generate_private_key(ec.SECP256K1())), "type"),
        (pem_of(x25519.X25519PrivateKey.generate()), "type"),
        (pem_of(dsa.generate_private_key(1024)), "type"),
        ("{", "not a JWK"),
        ('{"kty":"RSA","kty":"EC"}', "not a JWK"),
        ("{}", "not a whole JWK"),
        (json.dumps({**vectors.EC_A3, "d": vectors.EC_A3["x"]}), "not a whole private JWK"),
        (json.dumps({**vectors.EC_A3, "d": "AQ"}), "not a whole private JWK"),
        (json.dumps({**vectors.EC_A3, "d": encode(b"\0" + decode(vectors.EC_A3["d"]))}), "not a whole private JWK"),
        (json.dumps({**vectors.ED_8037, "d": encode(bytes(32))}), "not a whole private JWK"),
        (json.dumps({**vectors.RSA_A2, "p": vectors.RSA_A2["q"]}), "not a whole private JWK"),
        (json.dumps({name: value for name, value in vectors.RSA_A2.items() if name != "qi"}), "not a whole private"),
        (json.dumps({name: value for name, value in vectors.EC_A3.items() if name != "d"}), "not a whole private"),
        (json.dumps({**vectors.EC_A3, "use": "enc"}), "not for signatures"),
        (json.dumps({**vectors.EC_A3, "alg": "ES384"}), "algorithm"),
        (json.dumps({**vectors.EC_A3, "key_ops": ["verify"]}), "operation sign"),
        (json.dumps({"kty": "oct", "k": vectors.OCT_A1}), "no algorithm"),
    ],
)
def test_what_is_no_usable_private_key_is_refused_with_the_reason(text: str, reason: str) -> None:
    error = refused(text, field="providers.acme.private_key")
    assert reason in error.message
    assert (error.field, error.plugin) == ("providers.acme.private_key", "auth-jwt")


@pytest.mark.parametrize("text", [pem("RS256")[:-60], json.dumps({**vectors.EC_A3, "y": "AQ"}), "s3cret-" * 9])
def test_refusal_shows_nothing_of_the_key(text: str) -> None:
    """P41: not in the message, and not in the traceback with its locals and causes."""
    given = SecretStr(text)
    with pytest.raises(KeyInvalid) as caught:
        Jwk.from_text(given)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb) if frame.f_globals["__name__"] == module.__name__]
    shown = f"{caught.value} {[frame.f_locals for frame in frames]}"
    assert "from_text" in [frame.f_code.co_name for frame in frames]
    assert not [part for part in text.split() if len(part) > 12 and part in shown]
    assert vectors.EC_A3["d"] not in shown


@pytest.mark.parametrize("text", ["-----BEGIN PUBLIC KEY-----\n" + "A" * 60, "ssh-rsa " + "A" * 60, "{" + "a" * 60])
def test_text_of_another_key_is_no_hmac_secret(text: str) -> None:
    with pytest.raises(KeyInvalid, match="another kind of key"):
        Jwk.from_secret(SecretStr(text))
    assert "another kind of key" in refused(text, algorithm="HS256").message


def test_hmac_secret_has_32_bytes() -> None:
    with pytest.raises(KeyInvalid, match="31 bytes"):
        Jwk.from_secret(SecretStr("s" * 31))
    assert Jwk.from_secret(SecretStr("é" * 16)).algorithm == "HS256"
    assert load(SECRET, algorithm="HS256").allows("HS256")


# --- parsed once ---------------------------------------------------------------------------------------------------


def test_private_key_is_parsed_once_and_its_text_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pem_of(ec.generate_private_key(ec.SECP256R1()))
    parsed = []

    def counting(data: bytes, password: None) -> Any:
        parsed.append(1)
        return load_pem_private_key(data, password)

    monkeypatch.setattr(module, "load_pem_private_key", counting)
    keys = [load(text, kid=str(number)) for number in range(5)]
    assert len(parsed) == 1
    assert [key.kid for key in keys] == list("01234")
    assert all(isinstance(digest, bytes) and len(digest) == 32 for digest in module._parsed)


def test_number_of_parsed_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PARSED", 3)
    texts = [generate_ec_key(Random(seed).randbytes).reveal() for seed in range(6)]
    for text in texts:
        load(text)
    assert len(module._parsed) == 3
    assert load(texts[0]).is_private


# --- published keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_key_is_read_from_pem_certificate_and_jwk(algorithm: str) -> None:
    wanted = private(algorithm).thumbprint()
    assert Jwk.from_public_pem(public_pem(algorithm)).thumbprint() == wanted
    assert Jwk.from_public_dict(published(algorithm)).thumbprint() == wanted
    assert not Jwk.from_public_dict(published(algorithm)).is_private


def test_certificate_gives_its_key_and_its_thumbprint() -> None:
    made = certificate("ES256")
    text = made.public_bytes(Encoding.PEM).decode()
    assert Jwk.from_public_pem(text).matches(private("ES256"))
    assert decode(certificate_thumbprint(text, private("ES256"))) == sha256(made.public_bytes(Encoding.DER)).digest()
    with pytest.raises(KeyInvalid, match="another key"):
        certificate_thumbprint(text, private("ES256", 1))
    for bad in ("nonsense", pem("ES256"), text[:100], "é"):
        with pytest.raises(KeyInvalid):
            Jwk.from_public_pem(bad)


@pytest.mark.parametrize(
    "members",
    [
        {},
        "text",
        {"kty": "RSA"},
        {**published("RS256"), "n": published("RS256")["n"] + "="},
        {**published("RS256"), "n": 5},
        {**published("RS256"), "e": "AA"},
        {"kty": "RSA", "e": "AQAB", "n": encode(b"\xff" * 128)},
        {"kty": "RSA", "e": "AQAB", "n": encode(b"\xff" * 2000)},
        {**published("ES256"), "crv": "P-521"},
        {**published("ES256"), "crv": "secp256k1"},
        {**published("ES256"), "x": encode(b"\x01" * 32)},
        {**published("ES256"), "x": published("ES256")["x"][:-4]},
        {**published("ES256"), "x": encode(b"\x00" + decode(published("ES256")["x"]))},
        {**published("EdDSA"), "crv": "X25519"},
        {**published("EdDSA"), "x": "AQ"},
        {"kty": "oct", "k": vectors.OCT_A1},
        vectors.EC_A3,
        vectors.RSA_A2,
        {**published("ES256"), "use": "enc"},
        {**published("ES256"), "key_ops": ["sign"]},
        {**published("ES256"), "key_ops": "verify"},
        {**published("ES256"), "alg": "HS256"},
        {**published("ES256"), "alg": "ES384"},
        {**published("RS256"), "alg": "RS512"},
        {**published("ES256"), "kid": 5},
        {**published("ES256"), "kty": "FUTURE"},
    ],
)
def test_key_that_cannot_be_used_is_left_out_of_the_set_and_the_others_stay(members: Any) -> None:
    """RFC 7517 §5: a set may hold keys of tomorrow; a private or shared one is worth nothing once it is published."""
    found = JwkSet.from_dict({"keys": [members, published("ES256", kid="good")]})
    assert [key.kid for key in found.keys] == ["good"]
    assert found.skipped == 1
    with pytest.raises(KeyInvalid):
        Jwk.from_public_dict(members)


@pytest.mark.parametrize("document", [{}, [], "x", None, {"keys": {}}, {"keys": [{}] * (MOST_KEYS + 1)}])
def test_what_is_no_key_set_is_refused(document: Any) -> None:
    with pytest.raises(KeyInvalid):
        JwkSet.from_dict(document)


@given(document=st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(
    st.sampled_from(["keys", "kty", "n", "e", "crv", "x", "y", "alg", "use", "kid", "key_ops"]), inner | st.lists(inner)
)))  # fmt: skip
def test_any_document_gives_keys_or_the_typed_error(document: Any) -> None:
    with suppress(KeyInvalid):
        assert JwkSet.from_dict(document).skipped >= 0


# --- thumbprints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "thumbprint"),
    [
        (vectors.RSA_7638, vectors.RSA_THUMBPRINT),
        ({"kty": "OKP", "crv": "Ed25519", "x": vectors.ED_8037["x"]}, vectors.ED_THUMBPRINT),
        (vectors.DPOP_KEY, vectors.DPOP_JKT),
    ],
    ids=["RFC 7638 §3.1", "RFC 8037 A.3", "RFC 9449 §6.1"],
)
def test_thumbprint_is_the_published_one(members: dict[str, Any], thumbprint: str) -> None:
    assert Jwk.from_public_dict(members).thumbprint() == thumbprint


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_thumbprint_is_that_of_another_implementation(algorithm: str) -> None:
    kinds: dict[str, Any] = {"RS256": jose_jwk.RSAKey, "EdDSA": jose_jwk.OKPKey}
    theirs = kinds.get(algorithm, jose_jwk.ECKey).import_key(pem(algorithm)).thumbprint()
    assert private(algorithm).thumbprint() == Jwk.from_public_dict(published(algorithm)).thumbprint() == theirs


def test_shared_secret_has_neither_thumbprint_nor_public_part() -> None:
    with pytest.raises(KeyInvalid):
        private("HS256").thumbprint()


# --- new keys, secrecy ---------------------------------------------------------------------------------------------


def test_new_key_is_made_of_the_given_randomness_alone() -> None:
    one, same, other = (generate_ec_key(Random(seed).randbytes) for seed in (1, 1, 2))
    assert one == same != other
    assert load(one.reveal()).algorithm == "ES256"


@pytest.mark.parametrize("size", [b"\x00", b"\xff"])
def test_extreme_randomness_gives_a_key(size: bytes) -> None:
    assert load(generate_ec_key(lambda wanted: size * wanted).reveal()).key_type == "P-256"


@pytest.mark.parametrize("algorithm", [*ASYMMETRIC, "HS256"])
def test_key_never_prints_and_does_not_leave_the_process(algorithm: str) -> None:
    key = private(algorithm)
    shown = f"{key} {key!r} {JwkSet(keys=(key,))!r}"
    assert shown.count("<Jwk") == 2
    assert SECRET not in shown
    assert "object at" not in shown
    for leave in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(key)
