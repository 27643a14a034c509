"""Application keys of the Go system (go-services 0.7): they open what it sealed, and nothing is sealed with them.

The settings need the record alone, so that cryptography is imported only where there is something to open.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from go_services_core.config import setting, settings
from go_services_core.errors import CannotOpen, KeyInvalid, KeyNotFound
from go_services_core.sealing import GoEnvelope
from go_services_core.secret import SecretBytes, SecretStr

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM: Final = "aes-256-gcm"
"""What every such envelope says, also one under a key of 16 or 24 bytes."""
PREFIX: Final = "services.secret.v1:"
FIELD: Final = "secrets.appkey.go_keys"
SWITCH: Final = "secrets.appkey.go_without_prefix"
_NONCE: Final = 12
_SIZES: Final = (16, 24, 32)
_MAX_ID: Final = 512
_MAX_VERSION: Final = (1 << 31) - 1
# What Go takes for white space (unicode.IsSpace): Python's str.strip() would take the separators 1C to 1F as well.
_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


@settings
class GoKey:
    """A key of the Go system as its application was given it, and the id and version that it was given with.

    Raises:
        KeyInvalid: id or version is none that the Go system could have.
    """

    id: str = setting(default="app-key", help="Key id of the Go system's provider.")
    version: int = setting(default=1, help="Key version of the Go system's provider.")
    material: SecretStr = setting(
        secret=True, help="The key or passphrase of the Go system.", example="env:GO_SERVICES_APP_KEY"
    )
    encoding: Literal["text", "base64"] = setting(
        default="text", help="Whether the material is the text itself, or the base64 of bytes."
    )

    def __attrs_post_init__(self) -> None:
        if not self.id or self.id != self.id.strip() or len(self.id.encode("utf-8", "replace")) > _MAX_ID:
            raise _invalid("id", f"must have 1 to {_MAX_ID} bytes and no space around it.")
        if not 1 <= self.version <= _MAX_VERSION:
            raise _invalid("version", f"must be 1 to {_MAX_VERSION}.")


class GoKeys:
    """Opens envelopes of the Go system under the key that they name."""

    def __init__(self, keys: Sequence[GoKey], *, without_prefix: bool = False) -> None:
        """Open with ``keys``; the older form without the prefix only where ``without_prefix`` says so.

        Raises:
            KeyInvalid: a key has no material, or no base64; or two have one id and version. The message names it.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys: dict[tuple[str, int], AESGCM] = {}
        self._without_prefix = without_prefix
        for index, key in enumerate(keys):
            if (key.id, key.version) in self._keys:
                raise _invalid(str(index), f"has the id {key.id!r} and version {key.version} of another one.")
            self._keys[key.id, key.version] = AESGCM(_derived(key, index).reveal())

    def open(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext.

        Raises:
            KeyNotFound: the envelope names another algorithm, or a key that is not here; the message names both.
            CannotOpen: wrong material, a changed byte, an incomplete envelope, or the older form where that is off.
        """
        if (envelope.algorithm or ALGORITHM) != ALGORITHM:
            raise KeyNotFound(
                f"Its algorithm is {envelope.algorithm!r}, and the keys in {FIELD} are for {ALGORITHM!r}.",
                hint="It was sealed by another provider of the Go system, whose service has the key.",
                plugin="secrets-appkey",
                field=FIELD,
            )
        if not envelope.prefixed and not self._without_prefix:
            raise CannotOpen(
                "It has not the prefix of go-services' envelopes, as its older ones.",
                hint=f"Set {SWITCH} if the Go system was allowed to read these.",
                plugin="secrets-appkey",
                field=SWITCH,
            )
        complete = bool(envelope.key_id) and envelope.key_version > 0
        if len(envelope.nonce) != _NONCE or (envelope.prefixed and not complete):
            raise CannotOpen("It is incomplete, or was changed.", plugin="secrets-appkey", field=FIELD)
        forms: list[bytes | None] = [_associated_data(envelope) if complete else None]
        if complete and not envelope.prefixed:
            forms.append(None)  # only this older form: an envelope with a prefix is never read with less authentication
        for key in self._candidates(envelope):
            for bound in forms:
                opened = _opened(key, envelope, bound)
                if opened is not None:
                    return opened
        raise CannotOpen(
            "It was changed, or the key has other material.",
            hint=f"Compare the material of that key in {FIELD} with what the Go system was given.",
            plugin="secrets-appkey",
            field=FIELD,
        )

    def _candidates(self, envelope: GoEnvelope) -> list[AESGCM]:
        """The key that the envelope names; of the older form, which may name none, those that it does not exclude."""
        found = [
            key
            for (id, version), key in self._keys.items()
            if envelope.key_id in ("", id) and envelope.key_version in (0, version)
        ]
        if found:
            return found
        here = ", ".join(f"{id!r} (version {version})" for id, version in self._keys)
        raise KeyNotFound(
            f"It needs key {envelope.key_id!r} (version {envelope.key_version}) of the Go system, "
            f"and {FIELD} has {here or 'none'}.",
            hint=f"Add the key to {FIELD}, with the id and version that the Go system has for it.",
            plugin="secrets-appkey",
            field=FIELD,
        )

    def __repr__(self) -> str:
        return f"GoKeys({list(self._keys)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys cannot be pickled or copied out of the process")


def _derived(key: GoKey, index: int) -> SecretBytes:
    """Material of 16, 24 or 32 bytes as it is, any other through one SHA-256, as the Go system does."""
    material = _material(key)
    if material is None:
        raise _invalid(f"{index}.material", f"is not valid {key.encoding}.")
    if not material:
        raise _invalid(f"{index}.material", "is empty.")
    if len(material.reveal()) in _SIZES:
        return material
    return SecretBytes(hashlib.sha256(material.reveal()).digest())


def _material(key: GoKey) -> SecretBytes | None:
    """The bytes without the white space around them, binary ones too; None where the encoding is wrong."""
    try:
        if key.encoding == "base64":
            raw = base64.b64decode(key.material.reveal().strip(), validate=True)
        else:
            raw = key.material.reveal().encode("utf-8", "surrogateescape")  # bytes of an environment variable
        return SecretBytes(raw.decode("utf-8", "surrogateescape").strip(_SPACE).encode("utf-8", "surrogateescape"))
    except ValueError:
        return None


def _associated_data(envelope: GoEnvelope) -> bytes:
    return "|".join((PREFIX, envelope.key_id, str(envelope.key_version), ALGORITHM)).encode()


def _opened(key: AESGCM, envelope: GoEnvelope, bound: bytes | None) -> SecretBytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        return SecretBytes(key.decrypt(envelope.nonce, envelope.ciphertext, bound))
    except InvalidTag:
        return None


def _invalid(name: str, problem: str) -> KeyInvalid:
    return KeyInvalid(f"{FIELD}.{name} {problem}", plugin="secrets-appkey", field=f"{FIELD}.{name}")
