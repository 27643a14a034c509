"""The signature algorithms (RFC 7518 §3, RFC 8037 §3.1, RFC 9864 §2.2), each tied to the one type of its keys."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal

from attrs import frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

AlgorithmName = Literal["RS256", "PS256", "PS512", "ES256", "ES384", "EdDSA", "Ed25519", "HS256"]
KeyType = Literal["RSA", "P-256", "P-384", "Ed25519", "oct"]


@frozen
class Algorithm:
    """How to sign and to check; ``sign`` and ``check`` take the key that cryptography made, or bytes for HS256.

    ``check`` raises ``InvalidSignature``.
    """

    name: AlgorithmName
    key_type: KeyType
    digest: str
    """The hash that OpenID Connect takes for ``at_hash`` and ``c_hash``: a name of hashlib."""
    sign: Callable[[Any, bytes], bytes]
    check: Callable[[Any, bytes, bytes], None]


def _rsa(name: AlgorithmName, pad: padding.AsymmetricPadding, digest: hashes.HashAlgorithm) -> Algorithm:
    def sign(key: Any, data: bytes) -> bytes:
        return bytes(key.sign(data, pad, digest))

    def check(key: Any, data: bytes, signature: bytes) -> None:
        key.verify(signature, data, pad, digest)

    return Algorithm(name, "RSA", digest.name, sign, check)


def _ecdsa(name: AlgorithmName, key_type: KeyType, digest: hashes.HashAlgorithm, size: int) -> Algorithm:
    """``size`` is that of one coordinate in bytes; the signature is R and S one after the other (RFC 7518 §3.4)."""

    @cache
    def scheme() -> ec.ECDSA:
        try:
            return ec.ECDSA(digest, deterministic_signing=True)  # RFC 6979: no randomness that could repeat
        except UnsupportedAlgorithm:  # OpenSSL before 3.2
            return ec.ECDSA(digest)

    def sign(key: Any, data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, scheme()))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def check(key: Any, data: bytes, signature: bytes) -> None:
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))

    return Algorithm(name, key_type, digest.name, sign, check)


def _eddsa(name: AlgorithmName) -> Algorithm:
    """``EdDSA`` and ``Ed25519`` name the same; the second says the curve too (RFC 9864). It hashes with SHA-512."""

    def sign(key: Any, data: bytes) -> bytes:
        return bytes(key.sign(data))

    def check(key: Any, data: bytes, signature: bytes) -> None:
        key.verify(signature, data)

    return Algorithm(name, "Ed25519", "sha512", sign, check)


def _hmac_sign(key: Any, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _hmac_check(key: Any, data: bytes, signature: bytes) -> None:
    if not hmac.compare_digest(hmac.digest(key, data, "sha256"), signature):
        raise InvalidSignature


ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        algorithm.name: algorithm
        for algorithm in (
            _rsa("RS256", padding.PKCS1v15(), hashes.SHA256()),
            _rsa("PS256", padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256()),
            _rsa("PS512", padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH), hashes.SHA512()),
            _ecdsa("ES256", "P-256", hashes.SHA256(), 32),
            _ecdsa("ES384", "P-384", hashes.SHA384(), 48),
            _eddsa("EdDSA"),
            _eddsa("Ed25519"),
            Algorithm("HS256", "oct", "sha256", _hmac_sign, _hmac_check),
        )
    }
)
"""By name."""
