"""Export bundles: records encrypted as a whole under a key or a passphrase of their own.

``docs/reference/export-bundle.md`` has the format. Each record is a chunk of the STREAM construction (Hoang,
Reyhanitabar, Rogaway and Vizár, 2015, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance"): its
nonce counts, and says whether it is the last.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from go_services_core.errors import (
    BundleChanged,
    BundleInvalid,
    BundleKeyWrong,
    BundleReordered,
    BundleTruncated,
    ConfigError,
)
from go_services_core.secret import SecretBytes, SecretStr

from .key import PREFIX, parse_key
from .passphrase import ScryptParameters, current_parameters, derive_key

NAME: Final = "go-services"
VERSION: Final = 1
ENCRYPT: Final = b"go-services/bundle/1/encrypt"
COMMIT: Final = b"go-services/bundle/1/commit"
_SALT: Final = 32
_HEADER: Final = 4096
"""Bytes that the first line has at most."""
_END: Final = b"end"


class Bundles:
    """See :class:`go_services_core.sealing.BundleCipher`."""

    def seal(self, records: Iterable[bytes], key: SecretStr) -> bytes:
        """One line for the header, one for each record, and one that ends them."""
        parameters = None if _is_key(key) else current_parameters()
        salt = os.urandom(_SALT)
        secrets = _derived(key, parameters, salt)
        header = json.dumps(
            {
                "bundle": NAME,
                "version": VERSION,
                "salt": _text(salt),
                "scrypt": None if parameters is None else _fields(parameters),
                "check": _text(secrets.commitment),
            },
            separators=(",", ":"),
        ).encode()
        bound = hashlib.sha256(header).digest()
        lines = [header]
        for record in records:
            index = len(lines) - 1
            lines.append(b"%d %s" % (index, base64.b64encode(secrets.gcm.encrypt(_nonce(index), record, bound))))
        count = len(lines) - 1
        lines.append(_END + b" " + base64.b64encode(secrets.gcm.encrypt(_nonce(count, last=True), b"", bound)))
        return b"\n".join(lines) + b"\n"

    def open(self, bundle: bytes, key: SecretStr) -> list[SecretBytes]:
        """Every record, after all of them were found to be right."""
        header, _, rest = bundle.partition(b"\n")
        fields = _read_header(header)
        secrets = _derived(key, fields.parameters, fields.salt)
        if not hmac.compare_digest(secrets.commitment, fields.check):
            raise BundleKeyWrong
        bound = hashlib.sha256(header).digest()
        records: list[SecretBytes] = []
        lines = rest.split(b"\n")
        whole = lines.pop() == b""  # what stands after the last line break
        for place, line in enumerate(lines):
            label, _, sealed = line.partition(b" ")
            index = len(records)
            last = label == _END
            if not last and label != b"%d" % index:
                raise BundleReordered(f"Where record {index} of the export bundle belongs stands another.")
            records.append(_open(secrets.gcm, _nonce(index, last=last), sealed, bound, index, last=last))
            if last:
                if not whole or place + 1 != len(lines):
                    raise BundleChanged("Something follows the end of the export bundle.")
                return records[:-1]
        raise BundleTruncated


@frozen
class _Header:
    salt: bytes
    parameters: ScryptParameters | None
    check: bytes


class _Secrets:
    """What the key and the bundle's salt make together."""

    __slots__ = ("commitment", "gcm")

    def __init__(self, key: SecretBytes, salt: bytes) -> None:
        self.commitment = _expand(key, salt, COMMIT)
        self.gcm = AESGCM(_expand(key, salt, ENCRYPT))


def _expand(key: SecretBytes, salt: bytes, label: bytes) -> bytes:
    """HKDF (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(key.reveal())


def _derived(key: SecretStr, parameters: ScryptParameters | None, salt: bytes) -> _Secrets:
    if parameters is None:
        if not _is_key(key):
            raise BundleKeyWrong("The export bundle was made with a key, not with a passphrase.")
        return _Secrets(parse_key(key, field="key"), salt)
    if _is_key(key):
        raise BundleKeyWrong("The export bundle was made with a passphrase, not with a key.")
    return _Secrets(derive_key(key, parameters, field="key"), salt)


def _is_key(key: SecretStr) -> bool:
    return key.reveal().startswith(PREFIX)


def _nonce(index: int, *, last: bool = False) -> bytes:
    """The key encrypts one bundle only, so that counting never repeats a nonce."""
    return index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _open(gcm: AESGCM, nonce: bytes, sealed: bytes, bound: bytes, index: int, *, last: bool) -> SecretBytes:
    try:
        return SecretBytes(gcm.decrypt(nonce, base64.b64decode(sealed, validate=True), bound))
    except (InvalidTag, ValueError):
        pass
    if last:
        raise BundleTruncated(f"The end of the export bundle does not belong after {index} records.")
    raise BundleChanged(f"Record {index} of the export bundle was changed, or is another bundle's.")


def _fields(parameters: ScryptParameters) -> dict[str, Any]:
    return {"n": parameters.n, "r": parameters.r, "p": parameters.p, "salt": _text(parameters.salt)}


def _read_header(line: bytes) -> _Header:
    try:
        fields = json.loads(line[: _HEADER + 1].decode())
        if fields["bundle"] != NAME:
            raise BundleInvalid
        if fields["version"] != VERSION:
            raise BundleInvalid("The export bundle is of another release, whose format this one does not know.")
        salt, check = _bytes(fields["salt"]), _bytes(fields["check"])
        if len(salt) != _SALT or len(line) > _HEADER:
            raise BundleInvalid
        scrypt = fields["scrypt"]
        if scrypt is None:
            return _Header(salt, None, check)
        n, r, p = (_number(scrypt[name]) for name in ("n", "r", "p"))
        return _Header(salt, ScryptParameters(n=n, r=r, p=p, salt=_bytes(scrypt["salt"])), check)
    except (ValueError, TypeError, LookupError, RecursionError, ConfigError):
        raise BundleInvalid from None


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
