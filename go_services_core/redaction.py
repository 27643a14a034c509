"""Removing secrets from text: live values in every form in which they travel, and what stands behind certain names.

``mask`` is for logs and output of this process: it knows the values that are live here. ``scrub`` is for text that came
from outside as the answer to certain secrets.
"""

from __future__ import annotations

import json
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from .live_secrets import DISTINCTIVE, LIVE
from .secret import MASK, SecretStr

SHORTEST = 6
"""Shorter values are not searched for: they would shred ordinary text."""
_SAFE: Final = ("", "/", "/:", "!$'()*,:;=?@/")
"""What percent-encoders leave as it is: all escape by RFC 3986, but not the same characters."""
_ESCAPE: Final = re.compile("%[0-9A-F]{2}")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]+")
"""What no encoding of text changes (RFC 3986 §2.3)."""
_LINE: Final = 24
"""Characters from which a line of a longer secret, such as a PEM key, is searched for by itself."""

_KEYS: Final = (
    "access_token|refresh_token|id_token|session_token|subject_token|actor_token|registration_access_token|"
    "client_secret|client_assertion|assertion|code_verifier|device_code|authorization_code|"
    "secret_access_key|private_key|signing_key|api_?key|secret_?key|app_?secret|webhook_secret|"
    "passw(?:or)?d|passwd|passphrase|pwd|secret|token|"
    "x-amz-(?:security-token|signature)"
)
_HEADERS: Final = (
    "x-api-key|x-auth-token|x-access-token|x-vault-token|x-amz-security-token|x-amz-access-token|"
    "x-shopify-access-token|private-token|cookie|set-cookie|dpop"
)
_BEFORE: Final = r"(?<![A-Za-z0-9_-])"
_IS: Final = r"(?:\\?[\"']?\s*:|\\?[\"']\s*,)\s*b?\\?[\"']?"
"""Between a header's name and its value; a comma only after a quoted name, or it would be one of a sentence."""
_SHAPES: Final = (
    # Authorization: Bearer …, also as the repr of a mapping or of a pair
    re.compile(
        rf"({_BEFORE}(?:proxy-)?authorization(?:{_IS}|=)(?:[a-z0-9-]+\s+(?=[^\s\"']))?)"
        r"[^\s\"'\\,;]+",
        re.IGNORECASE,
    ),
    re.compile(r"(\bbearer\s+)[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE),
    # X-API-Key: …
    re.compile(rf"({_BEFORE}(?:{_HEADERS}){_IS})[^\s\"'\\,]+", re.IGNORECASE),
    # access_token=… in queries, forms and connection strings
    re.compile(rf"({_BEFORE}(?:{_KEYS})=)(?![\s\"'(])[^\s&;,\"'<>)\]}}]+", re.IGNORECASE),
    re.compile(r"([?&](?:code|state|key|sig|signature)=)[^\s&;,\"'<>)\]}]+", re.IGNORECASE),
    # "access_token": "…" as JSON, as JSON within JSON, or as the repr of a mapping
    re.compile(rf"(\\?[\"'](?:{_KEYS})\\?[\"']\s*:\s*b?(\\?[\"']))(?:(?!\2)(?:\\.|[^\\]))+(?=\2)", re.IGNORECASE),
    # https://user:password@host
    re.compile(r"(?<=://)([^/?#\s@:\"']*:)[^/?#\s@\"']+(?=@)"),
)
_SECRET_NAME: Final = re.compile(rf"(?:(?:proxy-)?authorization|{_HEADERS}|{_KEYS})", re.IGNORECASE)
_HINTS: Final = (
    "token", "key", "secret", "pass", "pwd", "auth", "bearer", "cookie", "assertion", "verifier", "code", "state=",
    "sig", "dpop", "://",
)  # fmt: skip
"""Of which each shape holds one: most texts hold none, and this is the quick way to tell."""


def mask(text: str) -> str:
    """``text`` without the secrets that are live in this process, and without what stands behind names of secrets."""
    return _mask_shapes(mask_values(text))


def mask_values(text: str) -> str:
    """``text`` without the secrets that are live in this process; words of our own may name secrets as they like."""
    return _replace(text, _live_patterns())


def mask_data(value: Any, *, named: bool = True) -> Any:
    """The same data with its text masked; mappings, lists, tuples and sets are copied, other objects stay as they are.

    ``named`` says that what stands under the name of a secret, such as ``password``, is one, whatever its value.
    """
    if isinstance(value, str):
        return mask(value) if named else mask_values(value)
    if isinstance(value, (bytes, bytearray)):
        text = value.decode("utf-8", "surrogateescape")
        masked = mask(text) if named else mask_values(text)
        return value if masked == text else masked.encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return {
            key: MASK
            if named and isinstance(key, str) and isinstance(item, (str, bytes)) and item and is_secret_name(key)
            else mask_data(item, named=named)
            for key, item in value.items()
        }
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(mask_data(item, named=named) for item in value)
    return value


def is_secret_name(name: str) -> bool:
    """Whether a field or header of that name holds a secret: ``password``, ``access_token``, ``Authorization`` …"""
    return _SECRET_NAME.fullmatch(name) is not None


def scrub(text: str, secrets: Iterable[SecretStr | None], *, limit: int = 300) -> str:
    """``text`` without the secrets' values, cut to ``limit`` characters, control characters made visible.

    A value is found as ``mask`` finds it, and with it what is live in this process or stands behind names of secrets.
    ``text`` has to be whole: half a secret at its end would not be found.
    """
    given = Patterns()
    for secret in secrets:
        if secret is not None and len(value := secret.reveal()) >= SHORTEST:
            given.add(value)
    text = _mask_shapes(_replace(text, (given, *_live_patterns())))
    shown = "".join(c if c.isprintable() else "�" for c in text[:limit])
    return shown if len(text) <= limit else shown[:-1] + "…"


class Patterns:
    """Texts to search for. The cost of a search grows with the text that is searched, not with their number."""

    def __init__(self, *, whole_words: bool = False) -> None:
        """With ``whole_words`` a value that is not long is found only where it is not part of a longer word."""
        self._whole_words = whole_words
        self.starts: dict[str, dict[int, set[str]]] = {}
        """First characters → length → forms that begin so. A mapping of lengths only ever is replaced by a larger one:
        other threads go through it meanwhile."""
        self._words: set[str] = set()

    def add(self, value: str | bytes) -> None:
        """Search for ``value`` too, in every form."""
        for form in _forms_of_bytes(value) if isinstance(value, bytes) else _forms(value):
            if len(form) >= SHORTEST:
                begun = self.starts.get(form[:SHORTEST], {})
                if len(form) in begun:
                    begun[len(form)].add(form)
                else:
                    self.starts[form[:SHORTEST]] = {**begun, len(form): {form}}
        if self._whole_words and isinstance(value, str) and len(value) < DISTINCTIVE:
            self._words.add(value)

    def matches(self, text: str) -> list[tuple[int, int]]:
        """Where each form begins and ends that is in ``text``; of those that begin at one place the longest."""
        starts, size = self.starts, SHORTEST
        found = [one for one in range(len(text) - size + 1) if text[one : one + size] in starts]
        ends = ((one, self._end(text, one)) for one in found)
        return [(start, end) for start, end in ends if end > start]

    def _end(self, text: str, start: int) -> int:
        longest = start
        for length, forms in self.starts[text[start : start + SHORTEST]].items():
            end = start + length
            if end <= longest or (found := text[start:end]) not in forms:
                continue
            if found not in self._words or _stands_alone(text, start, end):
                longest = end
        return longest


def substitute(text: str, patterns: Iterable[Patterns], by: Callable[[str], str]) -> str:
    """As ``mask``, with what ``by`` gives for each secret in its place; ``patterns`` are searched for as well."""
    return _mask_shapes(_replace(text, (*patterns, *_live_patterns()), by), by)


def _masked(secret: str) -> str:
    return MASK


def _replace(text: str, patterns: Iterable[Patterns], by: Callable[[str], str] = _masked) -> str:
    """``text`` with one mask for each stretch that matches cover, so that one that overlaps another leaves no rest."""
    matches = sorted(match for pattern in patterns for match in pattern.matches(text))
    if not matches:
        return text
    kept: list[str] = []
    done = 0  # everything before is in ``kept``
    start, end = matches[0]
    for following in (*matches[1:], (len(text), len(text))):
        if following[0] < end:
            end = max(end, following[1])
            continue
        kept += (text[done:start], by(text[start:end]))
        done = end
        start, end = following
    return "".join((*kept, text[done:]))


def _stands_alone(text: str, start: int, end: int) -> bool:
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return False
    before = text[start - 1 : start]
    if not (before.isalnum() or before == "_"):
        return True
    return text[max(0, start - 2) : start - 1] == "\\" or text[max(0, start - 3) : start - 2] == "%"


def _mask_shapes(text: str, by: Callable[[str], str] = _masked) -> str:
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    for shape in _SHAPES:
        text = shape.sub(lambda found: found[1] + by(found[0][len(found[1]) :]), text)
    return text


class _Indexed:
    """A generation of the live secrets, and the patterns of those of its values that were indexed so far."""

    def __init__(self, values: list[str | bytes]) -> None:
        self.values = values
        self.patterns = Patterns(whole_words=True)
        self.count = 0

    def catch_up(self) -> None:
        for value in self.values[self.count :]:
            self.patterns.add(value)
            self.count += 1


_lock = threading.RLock()  # what the collector ends while it is held may log, and so come here again
_indexed: tuple[_Indexed, ...] = ()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks
    os.register_at_fork(after_in_child=_unlock)


def _live_patterns() -> tuple[Patterns, ...]:
    """The patterns of what is live now; they are made when the first text is searched, and added to later."""
    global _indexed
    generations, held = LIVE.generations, _indexed
    if not held or any(
        one.values is not values or one.count != len(values) for one, values in zip(held, generations, strict=True)
    ):
        with _lock:
            known = {id(one.values): one for one in _indexed}
            held = tuple(known.get(id(values)) or _Indexed(values) for values in generations)
            for one in held:
                one.catch_up()
            _indexed = held
    return tuple(one.patterns for one in held if one.count)


def _forms(value: str) -> set[str]:
    """The value as it is, percent-encoded in the ways of URLs and forms, escaped as in JSON and Python, in Base64."""
    if _UNRESERVED.fullmatch(value):
        return {value, *_in_base64(value.encode())}
    forms = {value, repr(value)[1:-1]}
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        forms |= {escaped, escaped.replace("/", "\\/")}
    for safe in _SAFE:
        percent = quote(value, safe=safe, errors="replace")
        for quoted in (percent, _ESCAPE.sub(lambda found: found[0].lower(), percent)):
            forms |= {quoted, quoted.replace("%20", "+")}
    if "\n" in value:
        forms |= {line for line in value.splitlines() if len(line) >= _LINE and not line.startswith("-----")}
    return forms | _in_base64(value.encode("utf-8", "surrogatepass"))


def _forms_of_bytes(value: bytes) -> set[str]:
    return {value.hex(), value.hex().upper(), value.decode("latin-1"), repr(value)[2:-1], *_in_base64(value)}


def _in_base64(value: bytes) -> set[str]:
    """What of ``value`` is in the Base64 text of anything that holds it, such as ``user:password``; both alphabets.

    At each of the three places where it may begin, without the characters that depend on what stands beside it.
    """
    forms = set()
    for before in range(3):
        text = b64encode(bytes(before) + value).decode().rstrip("=")
        inner = text[(0, 2, 3)[before] :]
        if (before + len(value)) % 3:
            inner = inner[:-1]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms
