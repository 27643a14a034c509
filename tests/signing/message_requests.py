"""Generated requests, and the signatures on them as another implementation reads them (http-message-signatures)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver
from hypothesis import strategies as st
from multidict import CIMultiDict

from go_services_core.auth_specs import HttpSignature
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr

NOW = datetime.now(UTC)
"""The other implementation asks the machine's clock whether a signature is of now."""
KEY_ID = 'key "one"\\'

_NAMES = st.text("abz-_~%& ä/", min_size=1, max_size=4)
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
_SEGMENTS = st.lists(st.text("ab./ ä%:~", max_size=4), max_size=4)
_HOST = re.compile(r"[^/?#]*")
COMPONENTS = (
    "@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", '@query-param;name="q"',
    "content-digest", 'content-digest;key="sha-256"', "content-digest;sf", "content-length", "x-text", "x-text;bs",
    'x-dictionary;key="a"', "priority;sf",
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> HttpRequest:
    """Requests that have what ``COMPONENTS`` name; fields are repeated, spaced and empty."""
    host = draw(st.sampled_from(["a.example", "A.Example:8443", "127.0.0.1:80", "[::1]:8080", "a.example:443"]))
    path = "".join("/" + quote(segment, safe="~:") for segment in draw(_SEGMENTS))
    pairs = [f"{quote(name)}={quote(value)}" for name, value in draw(st.lists(st.tuples(_NAMES, _NAMES), max_size=4))]
    query = "&".join([*pairs, f"q={draw(st.sampled_from(['', 'a+b', '%7e%2F', 'x*y~z', '%C3%A4']))}"])
    texts = [("X-Text", value) for value in draw(st.lists(_VALUES, min_size=1, max_size=3))]
    headers = [*texts, ("x-dictionary", draw(st.sampled_from(["a", "a=1", "b, a=(1  2);x", 'a="\\\\", a=?0'])))]
    headers.append(("Priority", draw(st.sampled_from(["u=1", "u=1,  i", "i;x=1.50"]))))
    method = draw(st.sampled_from(["GET", "POST", "PATCH", "REPORT"]))
    return HttpRequest(method, f"{draw(st.sampled_from(['https', 'http']))}://{host}{path}?{query}",
                       tuple(draw(st.permutations(headers))), draw(st.none() | st.binary(max_size=20)))  # fmt: skip


def key_of(record: HttpSignature, secret: str, key_id: str | None = KEY_ID) -> SigningKey:
    """A credential for ``record``."""
    extra = {"key_id": SecretStr(key_id, name=True)} if key_id is not None else {}
    tokens = TokenSet(access_token=SecretStr(secret), token_type="http_signature", extra=extra)
    credential = Credential(connection_id="c", version=1, auth_kind="http_signature", tokens=tokens)
    return SigningKey(secret=tokens.access_token, auth=record, credential=credential)


def context(now: datetime = NOW) -> SigningContext:
    """A moment, with the same randomness each time."""
    return SigningContext(now, Random(1).randbytes)


class _Message:
    def __init__(self, request: HttpRequest) -> None:
        self.method, self.headers = request.method, CIMultiDict(request.headers)
        scheme, _, rest = request.url.partition("://")
        host, port = _HOST.match(rest), {"https": "443", "http": "80"}[scheme]
        assert host is not None
        self.url = f"{scheme}://{host[0].lower().removesuffix(f':{port}')}{rest[host.end() :]}"
        """As a server puts it together of the Host that is sent, which has no default port (RFC 9110 §7.1)."""


class _Resolver(HTTPSignatureKeyResolver):  # type: ignore[misc, unused-ignore]
    def __init__(self, public: bytes) -> None:
        self._public = public

    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == KEY_ID
        return self._public


def verified(request: HttpRequest, algorithm: Any, public: bytes, body: bytes | None = None) -> dict[str, str]:
    """The covered components and their values, as the other implementation read and checked them."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=_Resolver(public))
    (result,) = verifier.verify(_Message(request), body=body)
    covered: dict[str, str] = dict(result.covered_components)
    return covered
