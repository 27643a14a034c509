"""Taking secrets out of requests and answers, so that recordings of them can be kept in a repository."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import Any, Final
from urllib.parse import unquote_plus

from ..errors import RecordingInvalid
from ..http import Headers
from ..live_secrets import is_distinctive
from ..redaction import Patterns, is_secret_name, substitute
from .secret_shapes import shapes_in

PLACEHOLDER: Final = re.compile(r"REDACTED-\d+")
"""Stands for one secret throughout a recording; fit for URLs, headers and texts."""
_SENSITIVE: Final = re.compile(
    r"(?:token|secret|password|passwd|pwd|passphrase|signature|credential|jwt|cookie|apikey|accesskey|privatekey|"
    r"secretkey|signingkey|sessionid|session|assertion|verifier|authorization|authorizationcode|devicecode)s?$"
)
"""Ends of names, in small letters and digits, whose values are secrets. It takes more than the masking of logs does:
a recording loses nothing by it."""
_NOT_IN_NAMES: Final = re.compile("[^a-z0-9]")
_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s]*)")
_DROPPED: Final = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "date", "keep-alive", "server",
        "transfer-encoding", "user-agent", "via",
    }
)  # fmt: skip
"""Headers that change from one run to the next, or speak of bytes that are not recorded."""


class Scrubber:
    """Replaces secrets by placeholders: the same secret by the same one, numbered in the order of their appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._found = Patterns(whole_words=True)

    def headers(self, headers: Headers) -> list[list[str]]:
        """Those that are worth keeping, in order."""
        return [[name, self._header(name, value)] for name, value in headers if name.lower() not in _DROPPED]

    def url(self, url: str) -> str:
        """A URL; the values of parameters with names of secrets are replaced as well."""
        return self.text(_PARAMETER.sub(self._parameter, url))

    def body(self, content: bytes, content_type: str) -> dict[str, Any]:
        """How a body is kept: as ``json``, ``text`` or ``base64``; nothing for an empty one."""
        if not content:
            return {}
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return {"base64": b64encode(content).decode()}
        if content_type.endswith(("json", "javascript")) or not content_type:
            try:
                return {"json": self.data(json.loads(text))}
            except (ValueError, RecursionError):
                pass
        if content_type == "application/x-www-form-urlencoded":
            return {"text": self.url(f"?{text}")[1:]}
        return {"text": self.text(text)}

    def data(self, value: Any, *, secret: bool = False) -> Any:
        """JSON data; ``secret`` says that every text and number in it is one."""
        if isinstance(value, dict):
            return {
                self.text(name): self.data(item, secret=secret or _is_sensitive(name)) for name, item in value.items()
            }
        if isinstance(value, list):
            return [self.data(item, secret=secret) for item in value]
        if secret and value and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return self._placeholder(str(value))
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Text, by the values that are live in this process or were found before, by names, and by known shapes."""
        text = substitute(text, (self._found,), self._placeholder)
        for _, secret in shapes_in(text):
            text = text.replace(secret, self._placeholder(secret))
        return text

    def check(self, text: str) -> None:
        """Refuse a recording that still holds a secret.

        Raises:
            RecordingInvalid: naming the kind of what is left, not what it is.
        """
        left = [kind for kind, _ in shapes_in(text)]
        if substitute(text, (self._found,), self._placeholder) != text:
            left.append("value of this process, or of a field that is named like a secret")
        for blob in re.findall(r'"base64": "([^"]*)"', text):
            content = b64decode(blob).decode("latin-1")
            if shapes_in(content) or substitute(content, (self._found,), self._placeholder) != content:
                left.append("value in a body that is not text")
        if left:
            raise RecordingInvalid(
                f"The recording holds a secret: {', '.join(dict.fromkeys(left))}.",
                hint="Nothing was written. Record a call whose answer does not have it.",
            )

    def _header(self, name: str, value: str) -> str:
        if not is_secret_name(name) and not _is_sensitive(name):
            return self.url(value)
        scheme, space, credential = value.partition(" ")
        if name.lower().endswith("authorization") and space:
            return f"{scheme} {self._placeholder(credential)}"
        return self._placeholder(value)

    def _parameter(self, found: re.Match[str]) -> str:
        name, value = unquote_plus(found[1]), found[2]
        if not value or not (is_secret_name(name) or _is_sensitive(name)):
            return found[0]
        return f"{found[1]}={self._placeholder(unquote_plus(value))}"

    def _placeholder(self, secret: str) -> str:
        if PLACEHOLDER.fullmatch(secret):
            return secret
        number = self._numbers.get(secret)
        if number is None:
            number = self._numbers[secret] = len(self._numbers) + 1
            if is_distinctive(secret):
                self._found.add(secret)
        return f"REDACTED-{number}"


def _is_sensitive(name: str) -> bool:
    return _SENSITIVE.search(_NOT_IN_NAMES.sub("", name.lower())) is not None
