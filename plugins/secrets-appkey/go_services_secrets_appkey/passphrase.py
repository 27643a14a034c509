"""Application keys from passphrases: scrypt (RFC 7914), its parameters stored beside what they made.

Parameters that the hardware has outgrown are not changed in place: a new key is made from the same passphrase with
stronger ones, and the rows are wrapped anew under it.
"""

from __future__ import annotations

import os
import unicodedata
from itertools import pairwise
from typing import Final

from attrs import frozen
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from go_services_core.errors import ConfigError, KeyInvalid
from go_services_core.secret import SecretBytes, SecretStr

LEAST_CHARACTERS: Final = 20
_LEAST_DISTINCT: Final = 8
_LEAST_N: Final = 1 << 13
_LEAST_WORK: Final = (1 << 13) * 8 * 10
"""``n × r × p`` of the cheapest parameters of the OWASP Password Storage Cheat Sheet (section scrypt)."""
_MOST_MEMORY: Final = 1 << 30
_MOST_P: Final = 64
_SALT: Final = 16
_N, _R, _P = 1 << 17, 8, 1


@frozen(kw_only=True)
class ScryptParameters:
    """Parameters of scrypt, as RFC 7914 §2 names them.

    Raises:
        ConfigError: they are weaker than any that the OWASP Password Storage Cheat Sheet lists, or need over 1 GiB.
    """

    n: int
    r: int
    p: int
    salt: bytes

    def __attrs_post_init__(self) -> None:
        if self.n < 1 or self.n & (self.n - 1) or self.r < 8 or not 1 <= self.p <= _MOST_P:
            raise ConfigError(f"n must be a power of two, r at least 8, and p 1 to {_MOST_P}")
        if self.n < _LEAST_N or self.work < _LEAST_WORK:
            raise ConfigError(f"{self} is too weak: n × r × p must be at least {_LEAST_WORK}, and n {_LEAST_N}")
        if 128 * self.n * self.r > _MOST_MEMORY:
            raise ConfigError(f"{self} needs over {_MOST_MEMORY >> 20} MiB of memory")
        if not _SALT <= len(self.salt) <= 64:
            raise ConfigError(f"the salt must have {_SALT} to 64 bytes")

    @property
    def work(self) -> int:
        """What a guess costs, in blocks of 128 bytes mixed."""
        return self.n * self.r * self.p

    def warnings(self) -> tuple[str, ...]:
        """What needs attention: that they are weaker than today's."""
        if self.work >= _N * _R * _P:
            return ()
        return (f"made with weaker parameters than scrypt n={_N} r={_R} p={_P}: add a key, rotate and rewrap",)

    def __str__(self) -> str:
        return f"scrypt n={self.n} r={self.r} p={self.p}"


def current_parameters() -> ScryptParameters:
    """Today's parameters with a new salt: 128 MiB and about 0.4 seconds for each guess.

    They are the strongest row of the OWASP Password Storage Cheat Sheet (section scrypt: N = 2**17, r = 8, p = 1).
    """
    return ScryptParameters(n=_N, r=_R, p=_P, salt=os.urandom(_SALT))


def derive_key(passphrase: SecretStr, parameters: ScryptParameters, *, field: str) -> SecretBytes:
    """The 32 bytes of a key. It takes long and releases the interpreter lock meanwhile: call it in a thread.

    The passphrase is normalised to NFC (as RFC 8265 §4.2.2 does), so that it is the same from every keyboard.

    Raises:
        KeyInvalid: the passphrase is weak, or was mangled; the message names ``field`` and holds nothing of it.
    """
    flaw = _flaw(passphrase)
    if flaw:
        raise KeyInvalid(
            f"The passphrase in {field} {flaw}.",
            hint="Take six or more random words, the same in every process.",
            plugin="secrets-appkey",
            field=field,
        )
    function = Scrypt(salt=parameters.salt, length=32, n=parameters.n, r=parameters.r, p=parameters.p)
    return SecretBytes(function.derive(unicodedata.normalize("NFC", passphrase.reveal()).encode()))


def _flaw(passphrase: SecretStr) -> str:
    """Why this is no passphrase; empty when it is one."""
    text = passphrase.reveal()
    if not text.strip():
        return "is blank"
    if text != text.strip():
        return "has white space around it: it was mangled on its way"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        return "has a line break, a control character or a byte that is not UTF-8 in it"
    if len(text) < LEAST_CHARACTERS:
        return f"has {len(text)} characters; at least {LEAST_CHARACTERS} are needed"
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    if min(len(set(text)), len(steps)) < _LEAST_DISTINCT:
        return "repeats a few characters, or counts them up"
    return ""
