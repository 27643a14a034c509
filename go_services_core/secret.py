"""Types for values that must never be printed.

``repr``, ``str``, formatting, JSON and pickling never show the value; ``reveal()`` is the only way to it, so that every
use can be found by searching for that word.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

from .live_secrets import LIVE, LONGEST_BYTES

MASK: Final = "••••"


class SecretStr:
    """Text that never prints. Comparison takes constant time.

    While it is in use, its value is masked wherever this process writes text (``redaction.mask``); not so with
    ``name=True``, for what is kept with secrets but names somebody or something, such as a user name.
    """

    __slots__ = ("_name", "_value")

    def __init__(self, value: str, *, name: bool = False) -> None:
        if not isinstance(value, str):
            raise TypeError("SecretStr holds text")
        self._value = value
        self._name = name
        if not name and value not in LIVE.known:
            LIVE.add(value)

    def reveal(self) -> str:
        """The text itself."""
        value = self._value
        if value not in LIVE.known and not self._name:
            LIVE.add(value)
        return value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretStr):
            return NotImplemented
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self.reveal(), other.reveal()))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((SecretStr, self.reveal()))

    def __repr__(self) -> str:
        return f"SecretStr({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied out of the process")

    def __copy__(self) -> SecretStr:
        return self

    def __deepcopy__(self, memo: object) -> SecretStr:
        return self


class SecretBytes:
    """Bytes that never print. Comparison takes constant time.

    Keys are masked in what this process writes from when they are made, and not anew with each use, which an envelope
    could not afford.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError("SecretBytes holds bytes")
        self._value = value
        if len(value) <= LONGEST_BYTES:  # or it is not searched for, and every plaintext would cost a call
            LIVE.add(value)

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((SecretBytes, self._value))

    def __repr__(self) -> str:
        return f"SecretBytes({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied out of the process")

    def __copy__(self) -> SecretBytes:
        return self

    def __deepcopy__(self, memo: object) -> SecretBytes:
        return self
