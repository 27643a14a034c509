"""Keys: from PEM (PKCS#8, PKCS#1, SEC 1), JWK and JWK Sets (RFC 7517), and their thumbprints (RFC 7638).

Checking an RSA key takes tens of milliseconds, so private keys are parsed once for a process. The parsed ones are found
by the SHA-256 of their text, which is not kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, NoReturn

from attrs import evolve, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from go_services_core.errors import KeyInvalid
from go_services_core.secret import SecretStr

from .algorithms import ALGORITHMS, AlgorithmName, KeyType
from .base64url import decode, encode
from .strict_json import read_object

MOST_KEYS: Final = 100
"""A key set with more is refused."""
_LEAST_SECRET: Final = 32
"""Bytes of an HS256 secret (RFC 7518 §3.2)."""
_RSA_BITS: Final = range(2048, 8193)
"""RFC 7518 §3.3 sets the lower end; the upper one bounds what a stranger's key may cost."""
_MOST_PARSED: Final = 256

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
_CURVE_NAMES: Final[Mapping[str, KeyType]] = {"secp256r1": "P-256", "secp384r1": "P-384"}
_SHARED_MEMBERS: Final = frozenset({"kty", "kid", "alg", "use", "key_ops", "x5u", "x5c", "x5t", "x5t#S256"})

_parsed: OrderedDict[bytes, Any] = OrderedDict()
_lock = Lock()


@frozen(kw_only=True, eq=False, repr=False)
class Jwk:
    """A key for one type of algorithm: private (signs and checks), public (checks) or a shared secret (both).

    It never prints and cannot be pickled.
    """

    key_type: KeyType
    algorithm: AlgorithmName
    """The one algorithm that it signs with; a public key of a set without ``alg`` checks each of its type."""
    fixed: bool = False
    """Whether the key itself, or who loaded it, says the algorithm."""
    kid: str | None = None
    _private: Any = None
    _public: Any

    @classmethod
    def from_text(
        cls,
        text: SecretStr,
        *,
        kid: str | None = None,
        algorithm: AlgorithmName | None = None,
        field: str = "private_key",
    ) -> Jwk:
        """A private key from PEM (PKCS#8, PKCS#1, SEC 1) or from a JWK in JSON.

        Line breaks of a PEM may be written ``\\n``, as in environment variables. For ``HS256`` the text is the secret.

        Args:
            text: the key.
            kid: key id for the header of what it signs; wins over the JWK's own.
            algorithm: fixes the algorithm; else the JWK's ``alg``, else RS256, ES256, ES384 or EdDSA by type.
            field: whose value it is, for the error.

        Raises:
            KeyInvalid: it is no private key, is encrypted, weak, or of a type without an algorithm here; the message
                holds nothing of it.
        """
        return _usable(f"The key in {field}", field, lambda: _private_from_text(text, kid, algorithm))

    @classmethod
    def from_secret(cls, secret: SecretStr, *, kid: str | None = None) -> Jwk:
        """A shared secret for HS256; the key is its UTF-8 (OpenID Connect Core §10.1).

        Raises:
            KeyInvalid: under 32 bytes, or the text of a public or private key (RFC 8725 §2.1).
        """
        return _usable("The HS256 secret", "secret", lambda: _secret(secret)._as(kid, None))

    @classmethod
    def from_public_pem(cls, text: str, *, kid: str | None = None, algorithm: AlgorithmName | None = None) -> Jwk:
        """A public key from PEM (SubjectPublicKeyInfo, PKCS#1) or from a PEM certificate.

        Raises:
            KeyInvalid: it is none, weak, or of a type without an algorithm here.
        """
        return _usable("The public key", "public_key", lambda: _jwk(_public_from_pem(text))._as(kid, algorithm))

    @classmethod
    def from_public_dict(cls, members: Mapping[str, Any]) -> Jwk:
        """A public key from a JWK's members.

        Raises:
            KeyInvalid: it is private or symmetric, weak, for encryption, or of an unknown type or algorithm.
        """
        return _usable("The JWK", "jwk", lambda: _public_from_members(members))

    @property
    def is_private(self) -> bool:
        """Whether it can sign."""
        return self._private is not None

    def allows(self, algorithm: str) -> bool:
        """Whether it may be used with the algorithm of that name."""
        if self.fixed:
            return algorithm == self.algorithm
        return algorithm in ALGORITHMS and ALGORITHMS[algorithm].key_type == self.key_type

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data`` in the form of RFC 7518 §3.

        Raises:
            KeyInvalid: it is a public key.
        """
        if self._private is None:
            raise _invalid("A public key cannot sign.", "key")
        return ALGORITHMS[self.algorithm].sign(self._private, data)

    def check(self, algorithm: str, data: bytes, signature: bytes) -> None:
        """Raise cryptography's ``InvalidSignature`` unless ``signature`` is right; ask ``allows`` first."""
        ALGORITHMS[algorithm].check(self._public, data, signature)

    def matches(self, other: Jwk) -> bool:
        """Whether both are the same key, private or public."""
        return self.thumbprint() == other.thumbprint()

    def public_members(self) -> dict[str, str]:
        """The members that RFC 7638 §3.2 (RFC 8037 §2) requires, without a private one.

        Raises:
            KeyInvalid: it is a shared secret, which has no public part.
        """
        key: Any = self._public
        if self.key_type == "RSA":
            numbers = key.public_numbers()
            return {"e": _integer(numbers.e), "kty": "RSA", "n": _integer(numbers.n)}
        if self.key_type in _CURVES:
            numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
            x, y = (encode(part.to_bytes(size, "big")) for part in (numbers.x, numbers.y))
            return {"crv": self.key_type, "kty": "EC", "x": x, "y": y}
        if self.key_type == "oct":
            raise _invalid("A shared secret has no public part.", "key")
        return {"crv": "Ed25519", "kty": "OKP", "x": encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}

    def thumbprint(self) -> str:
        """The SHA-256 thumbprint (RFC 7638 §3), base64url.

        Raises:
            KeyInvalid: it is a shared secret.
        """
        members = self.public_members()
        text = ",".join(f'"{name}":"{members[name]}"' for name in sorted(members))
        return encode(hashlib.sha256(f"{{{text}}}".encode("ascii")).digest())

    def _as(self, kid: str | None, algorithm: AlgorithmName | None) -> Jwk:
        if algorithm is None:
            return evolve(self, kid=kid)
        if not self.allows(algorithm):
            raise _Unusable(f"cannot be used with {algorithm}")
        return evolve(self, kid=kid, algorithm=algorithm, fixed=True)

    def __repr__(self) -> str:
        return f"<Jwk {self.key_type} {'private' if self.is_private else 'public'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied out of the process")


@frozen(kw_only=True)
class JwkSet:
    """The public keys that an issuer publishes (RFC 7517 §5)."""

    keys: tuple[Jwk, ...] = field(repr=False)
    skipped: int = 0
    """Members that are no usable public signature key: RFC 7517 §5 has them ignored."""

    @classmethod
    def from_dict(cls, document: Any) -> JwkSet:
        """Read a JWK Set; a private or symmetric key in it is not used.

        Raises:
            KeyInvalid: it is no key set, or has more than 100 keys.
        """
        found = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(found, list):
            raise _invalid("The key set has no list of keys.", "jwks")
        if len(found) > MOST_KEYS:
            raise _invalid(f"The key set has {len(found)} keys; at most {MOST_KEYS} are read.", "jwks")
        keys = []
        for members in found:
            try:
                keys.append(_public_from_members(members))
            except _Unusable:
                continue
        return cls(keys=tuple(keys), skipped=len(found) - len(keys))


def certificate_thumbprint(pem: str, key: Jwk) -> str:
    """``x5t#S256`` (RFC 7515 §4.1.8) of the PEM certificate of ``key``.

    Raises:
        KeyInvalid: it is no certificate, or another key's.
    """
    if not Jwk.from_public_pem(pem).matches(key):
        raise _invalid("The certificate belongs to another key.", "certificate")
    der = load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)
    return encode(hashlib.sha256(der).digest())


def generate_ec_key(random: Callable[[int], bytes]) -> SecretStr:
    """A new P-256 key as PKCS#8 PEM, made of ``random`` alone (FIPS 186-5 §A.2.1: 64 bits more than the order has)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    number = int.from_bytes(random(40), "big") % (order - 1) + 1
    key = ec.derive_private_key(number, ec.SECP256R1())
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))


class _Unusable(Exception):
    """Why a key cannot be used; completes a sentence that begins with the key's name."""


def _invalid(message: str, field: str) -> KeyInvalid:
    return KeyInvalid(message, plugin="auth-jwt", field=field)


def _usable(what: str, field: str, make: Callable[[], Jwk]) -> Jwk:
    try:
        return make()
    except _Unusable as why:
        reason = str(why)
    raise _invalid(f"{what} {reason}.", field)  # out here, so that it leads to no frame that holds the key in clear


def _private_from_text(text: SecretStr, kid: str | None, algorithm: AlgorithmName | None) -> Jwk:
    if algorithm == "HS256":
        return _secret(text)._as(kid, None)
    value = text.reveal().strip()
    if value.startswith("{"):
        made: Jwk = _once(value, _private_from_json)
        return made._as(made.kid if kid is None else kid, algorithm)
    return _jwk(_once(value, _private_from_pem))._as(kid, algorithm)


def _secret(text: SecretStr) -> Jwk:
    value = text.reveal()
    if value.lstrip().startswith(("-----BEGIN", "{", "ssh-", "ecdsa-sha2-")):
        raise _Unusable("is the text of another kind of key")
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) < _LEAST_SECRET:
        raise _Unusable(f"has {len(raw)} bytes; for HS256 it has at least {_LEAST_SECRET} (RFC 7518 §3.2)")
    return Jwk(key_type="oct", algorithm="HS256", fixed=True, private=raw, public=raw)


def _once(text: str, parse: Callable[[str], Any]) -> Any:
    """``parse(text)``, done once for each text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    with _lock:
        found = _parsed.get(digest)
        if found is not None:
            _parsed.move_to_end(digest)
            return found
    found = parse(text)
    with _lock:
        _parsed[digest] = found
        while len(_parsed) > _MOST_PARSED:
            _parsed.popitem(last=False)
    return found


def _private_from_pem(text: str) -> Any:
    if "\n" not in text:
        text = text.replace("\\r", "").replace("\\n", "\n")
    try:
        return load_pem_private_key(text.encode("utf-8", "surrogatepass"), password=None)
    except TypeError:
        raise _Unusable("is encrypted; give it without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable("is not a private key in PEM form or a JWK") from None


def _public_from_pem(text: str) -> Any:
    try:
        data = text.encode("ascii")
        if "BEGIN CERTIFICATE" in text:
            return load_pem_x509_certificate(data).public_key()
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable("is not a public key in PEM form") from None


def _private_from_json(text: str) -> Jwk:
    try:
        members = read_object(text)
    except ValueError:
        raise _Unusable("is not a JWK") from None
    public = _public_material(members)
    try:
        private = _private_material(members, public)
    except ValueError:
        raise _Unusable("is not a whole private JWK") from None
    return _described(_jwk(private), members)


def _public_from_members(members: Any) -> Jwk:
    if not isinstance(members, Mapping):
        raise _Unusable("is not an object")
    if any(name in members for name in ("d", "k", "p", "q", "priv")):
        raise _Unusable("is private or symmetric, and public it is worth nothing")
    return _described(_jwk(_public_material(members)), members)


def _described(key: Jwk, members: Mapping[str, Any]) -> Jwk:
    """``key`` with what its JWK says of its use (RFC 7517 §4.2 to §4.5)."""
    for name in _SHARED_MEMBERS - {"key_ops", "x5c"}:
        if name in members and not isinstance(members[name], str):
            raise _Unusable(f"has a member {name} that is not text")
    if members.get("use", "sig") != "sig":
        raise _Unusable("is not for signatures")
    wanted = "sign" if key.is_private else "verify"
    if "key_ops" in members and (not isinstance(members["key_ops"], list) or wanted not in members["key_ops"]):
        raise _Unusable(f"is not for the operation {wanted}")
    algorithm = members.get("alg")
    if algorithm is not None and not key.allows(algorithm):
        raise _Unusable("names an algorithm that is unknown here or does not fit it")
    return key._as(members.get("kid"), algorithm)


def _public_material(members: Mapping[str, Any]) -> Any:
    def octets(name: str) -> bytes:
        return decode(members[name])

    try:
        kind = members["kty"]
        if kind == "RSA":
            n, e = (int.from_bytes(octets(name), "big") for name in ("n", "e"))
            return rsa.RSAPublicNumbers(e, n).public_key()
        if kind == "EC" and members["crv"] in _CURVES:
            curve = _CURVES[members["crv"]]
            x, y = octets("x"), octets("y")
            if len(x) != len(y) or len(x) != (curve.key_size + 7) // 8:
                raise ValueError("a coordinate has all its bytes (RFC 7518 §6.2.1.2)")
            point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
            return point.public_key()
        if kind == "OKP" and members["crv"] == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets("x"))
    except (KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        raise _Unusable("is not a whole JWK") from None
    raise _Unusable("is of a type or curve that has no algorithm here")


def _private_material(members: Mapping[str, Any], public: Any) -> Any:
    try:
        if isinstance(public, rsa.RSAPublicKey):
            d, p, q, dp, dq, qi = (
                int.from_bytes(decode(members[name]), "big") for name in ("d", "p", "q", "dp", "dq", "qi")
            )
            return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public.public_numbers()).private_key()
        secret = decode(members["d"])
        if isinstance(public, ec.EllipticCurvePublicKey):
            if len(secret) != (public.curve.key_size + 7) // 8:
                raise ValueError("d has all its bytes (RFC 7518 §6.2.2.1)")
            number = int.from_bytes(secret, "big")
            return ec.EllipticCurvePrivateNumbers(number, public.public_numbers()).private_key()
        made = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
        if made.public_key() != public:
            raise ValueError("d and x belong to different keys")
        return made
    except (KeyError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not whole") from None


def _jwk(material: Any) -> Jwk:
    """The key around what cryptography made."""
    private = material if hasattr(material, "private_bytes") else None
    public = material.public_key() if private is not None else material
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size not in _RSA_BITS:
            raise _Unusable(f"has {public.key_size} bits; RSA keys have 2048 to 8192 here")
        return Jwk(key_type="RSA", algorithm="RS256", private=private, public=public)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVE_NAMES:
        key_type = _CURVE_NAMES[public.curve.name]
        algorithm: AlgorithmName = "ES256" if key_type == "P-256" else "ES384"
        return Jwk(key_type=key_type, algorithm=algorithm, private=private, public=public)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Jwk(key_type="Ed25519", algorithm="EdDSA", private=private, public=public)
    raise _Unusable("is of a type that has no algorithm here; take RSA, EC P-256, EC P-384 or Ed25519")


def _integer(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
