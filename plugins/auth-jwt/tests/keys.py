"""Keys of every type, made once for all tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from go_services_auth_jwt.jwk import Jwk
from go_services_core.secret import SecretStr

SECRET = "a shared secret of more than 32 bytes, which a provider gave"
ASYMMETRIC = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def material(algorithm: str, which: int = 0) -> Any:
    """The private key for an algorithm; ``which`` chooses between several."""
    return _made({"PS256": "RS256", "Ed25519": "EdDSA"}.get(algorithm, algorithm), which)


@cache
def _made(algorithm: str, which: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())


@cache
def pem(algorithm: str, which: int = 0, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return str(material(algorithm, which).private_bytes(Encoding.PEM, form, NoEncryption()).decode())


@cache
def encrypted_pem() -> str:
    key = material("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    return str(key.decode())


@cache
def public_pem(algorithm: str, which: int = 0) -> str:
    key = material(algorithm, which).public_key()
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@cache
def certificate(algorithm: str, which: int = 0) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    builder = x509.CertificateBuilder(name, name).public_key(material(algorithm, which).public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    return builder.sign(material(algorithm, which), SHA256())


def private(algorithm: Any, which: int = 0, kid: str | None = None) -> Jwk:
    if algorithm == "HS256":
        return Jwk.from_secret(SecretStr(SECRET), kid=kid)
    return Jwk.from_text(SecretStr(pem(algorithm, which)), kid=kid, algorithm=algorithm)


def published(algorithm: str, which: int = 0, **members: Any) -> dict[str, Any]:
    """The public JWK, as an issuer would publish it."""
    return {**private(algorithm, which).public_members(), **members}
