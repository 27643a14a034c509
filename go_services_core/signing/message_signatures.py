"""HTTP Message Signatures (RFC 9421), with the digest of the body (RFC 9530) where that is covered."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256, sha512
from hmac import digest
from typing import Final
from urllib.parse import quote, unquote_plus, urlsplit

from attrs import evolve, frozen

from ..auth_specs import AuthSpec, HttpSignature
from ..errors import SigningError
from ..http import HttpRequest, check_header
from ..protocols import SigningContext, SigningKey
from ..secret import SecretStr
from .shared_secret import secret_bytes
from .structured_fields import (
    Bare,
    Item,
    parse_dictionary,
    parse_item,
    parse_list,
    write_dictionary,
    write_item,
    write_list,
    write_parameters,
)

Make = Callable[[HttpSignature, SecretStr, bytes], bytes]
"""The signature over a signature base: by the record's algorithm, with the credential's secret."""

_DIGESTS: Final = {"sha-256": sha256, "sha-512": sha512}
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_TARGET: Final = re.compile(r"[!-~]+")
_SPACES: Final = " \t"


class HttpSignatureSigner:
    """Signs with ``hmac-sha256``; the other algorithms are another signer's, over the same :func:`signed`."""

    def is_dated(self, auth: AuthSpec) -> bool:
        """Whether the signature carries its time."""
        return is_dated(auth)

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        """The signed copy of ``request``; raises as :func:`signed`."""
        return signed(request, key, ctx, _mac)


def is_dated(auth: AuthSpec) -> bool:
    """Whether the record's signatures carry their time."""
    return isinstance(auth, HttpSignature) and not {"created", "expires"}.isdisjoint(auth.parameters)


def signed(request: HttpRequest, key: SigningKey, ctx: SigningContext, make: Make) -> HttpRequest:
    """A copy of the final ``request`` with ``Signature-Input`` and ``Signature`` (RFC 9421 §4), signed by ``make``.

    A signature of the record's label is replaced, others stay.

    Raises:
        SigningError: the key does not fit the record, or a component is missing, repeated, streamed or not ASCII.
        BadInput: a header would break out of its line.
    """
    record = key.auth
    if not isinstance(record, HttpSignature):
        raise SigningError(f"The signer http_signature needs an HttpSignature record, not {type(record).__name__}.")
    for name, value in request.headers:
        check_header(name, value)
    request, others, other_inputs = _without(request, record.label)
    covered = record.covered
    if record.covered_with_body and request.body is not None and request.body != b"":
        covered += record.covered_with_body
    components = _parsed(covered)
    request = _completed(request, record, {component.name for component in components})
    described = f"({' '.join(component.text for component in components)}){_parameters(record, key, ctx)}"
    base = signature_base(request, components, described, record)
    signature = Item(make(record, key.secret, base))
    inputs = f"{record.label}={described}"
    lines = ((*other_inputs, inputs), (*others, f"{record.label}={write_item(signature)}"))
    for name, values in zip(("Signature-Input", "Signature"), lines, strict=True):
        request = request.with_header(name, ", ".join(values))
    return request


@frozen
class Component:
    """One identifier: a name, its parameters, and the text that is signed for it (RFC 9421 §2)."""

    name: str
    parameters: dict[str, Bare]
    text: str


def signature_base(
    request: HttpRequest, components: tuple[Component, ...], described: str, record: HttpSignature
) -> bytes:
    """What is signed (RFC 9421 §2.5): one line for each component, and one with ``described``, the parameters.

    Raises:
        SigningError: the request has not every component, or one that is not ASCII.
    """
    address = _Address.of(request.url)
    lines = [f"{one.text}: {_value(request, address, one, record)}" for one in components]
    base = "\n".join([*lines, f'"@signature-params": {described}'])
    try:
        return base.encode("ascii")
    except UnicodeEncodeError:
        wrong = next(one for one, line in zip(components, lines, strict=True) if not line.isascii())
    raise SigningError(
        f"The header {wrong.name} is to be signed, and its value is not ASCII.",
        hint=f'Cover it as bytes: "{wrong.name};bs".',
        field=wrong.name,
    )


@lru_cache(maxsize=256)
def _parsed(covered: tuple[str, ...]) -> tuple[Component, ...]:
    made = []
    for text in covered:
        name, mark, rest = text.partition(";")
        parameters = dict(parse_item(f"?1{mark}{rest}").parameters)
        made.append(Component(name, parameters, f'"{name}"{write_parameters(parameters)}'))
    return tuple(made)


def _parameters(record: HttpSignature, key: SigningKey, ctx: SigningContext) -> str:
    created = int(ctx.now.timestamp())
    values: dict[str, Bare] = {}
    for name in record.parameters:
        if name == "keyid":
            held = key.credential.tokens.extra.get("key_id") if key.credential is not None else None
            if held is None:
                raise SigningError("The credential has no key id, and its record sends one.", field="key_id")
            values[name] = held.reveal()
        elif name == "expires":
            assert record.lifetime is not None
            values[name] = created + int(record.lifetime)
        elif name == "nonce":
            values[name] = ctx.random(16).hex()
        else:
            values[name] = created if name == "created" else record.algorithm if name == "alg" else record.tag or ""
    try:
        return write_parameters(values)
    except ValueError:
        raise SigningError("The key id holds a character that no signature can name.", field="key_id") from None


def _completed(request: HttpRequest, record: HttpSignature, names: set[str]) -> HttpRequest:
    """``request`` with the headers that follow from its body, where they are covered."""
    if "content-digest" in names:
        hashed = _DIGESTS[record.digest](_bytes(request, "Content-Digest")).digest() if _is_known(request) else None
        if hashed is not None:
            request = request.with_header("Content-Digest", write_dictionary({record.digest: Item(hashed)}))
        elif request.header("Content-Digest") is None:
            raise SigningError(
                "The digest of a streamed body is not known before it is sent.",
                hint="Send it as bytes, or give the request its Content-Digest.",
                field="body",
            )
    if "content-length" in names and request.header("Content-Length") is None:
        request = request.with_header("Content-Length", str(len(_bytes(request, "Content-Length"))))
    return request


def _is_known(request: HttpRequest) -> bool:
    return request.body is None or isinstance(request.body, bytes)


def _bytes(request: HttpRequest, header: str) -> bytes:
    if request.body is not None and not isinstance(request.body, bytes):
        raise SigningError(f"A body that is streamed has no {header} that could be signed.", field="body")
    return request.body or b""


@frozen
class _Address:
    """The parts of a URL as a server sees them."""

    scheme: str
    authority: str
    path: str
    query: str | None

    @classmethod
    def of(cls, url: str) -> _Address:
        if not _TARGET.fullmatch(url):
            raise SigningError("The URL holds a character that must be percent-encoded.", field="url")
        base, mark, query = url.partition("#")[0].partition("?")
        try:
            parts = urlsplit(base)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise SigningError("The URL has no usable host and port.", field="url") from None
        scheme = parts.scheme.lower()
        if not host or scheme not in _DEFAULT_PORTS or "@" in parts.netloc or "\\" in base:
            raise SigningError("The URL is not https://host/path without user information.", field="url")
        host = f"[{host}]" if ":" in host else host
        authority = host if port is None or port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
        return cls(scheme, authority, parts.path or "/", query if mark else None)

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"


def _value(request: HttpRequest, address: _Address, component: Component, record: HttpSignature) -> str:
    """RFC 9421 §2.1 and §2.2."""
    name = component.name
    if name == "@method":
        return request.method
    if name == "@target-uri":
        return f"{address.scheme}://{address.authority}{address.target}"
    if name == "@authority":
        return address.authority
    if name == "@scheme":
        return address.scheme
    if name == "@request-target":
        return address.target
    if name == "@path":
        return address.path
    if name == "@query":
        return f"?{address.query or ''}"
    if name == "@query-param":
        return _parameter(address.query or "", str(component.parameters["name"]))
    values = [value.strip(_SPACES) for known, value in request.headers if known.lower() == name]
    if not values:
        raise SigningError(f"The header {name} is to be signed, and the request has none.", field=name)
    if "bs" in component.parameters:
        return write_list(tuple(Item(value.encode()) for value in values))
    joined = ", ".join(values)
    return joined if not component.parameters else _canonical(joined, component, record)


def _canonical(value: str, component: Component, record: HttpSignature) -> str:
    """A structured field in its canonical form, or one member of it."""
    name, kind = component.name, record.kind_of(component.name)
    try:
        if "key" in component.parameters:
            key = str(component.parameters["key"])
            members = parse_dictionary(value)
            if key not in members:
                raise SigningError(f"The header {name} is to be signed, and has no member {key!r}.", field=name)
            return write_item(members[key])
        if kind == "dictionary":
            return write_dictionary(parse_dictionary(value))
        return write_list(parse_list(value)) if kind == "list" else write_item(parse_item(value))
    except ValueError:
        raise SigningError(f"The header {name} is no structured field of the kind {kind}.", field=name) from None


def _parameter(query: str, name: str) -> str:
    """The value of a query parameter, decoded and encoded again (RFC 9421 §2.2.8)."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    found = [value for known, _, value in pairs if _encoded(known) == name]
    if len(found) != 1:
        state = "has none of that name" if not found else "has it more than once"
        raise SigningError(f"The query parameter {name} is to be signed, and the request {state}.", field="url")
    return _encoded(found[0])


def _encoded(text: str) -> str:
    """By the percent-encode set of ``application/x-www-form-urlencoded``, with ``%20`` for a space."""
    return quote(unquote_plus(text), safe="*-._").replace("~", "%7E")


def _without(request: HttpRequest, label: str) -> tuple[HttpRequest, tuple[str, ...], tuple[str, ...]]:
    """``request`` without the signature of that label, and the members of the others: signatures and inputs."""
    kept: list[tuple[str, ...]] = []
    for header in ("signature", "signature-input"):
        values = [value for name, value in request.headers if name.lower() == header]
        try:
            members = parse_dictionary(", ".join(values)) if values else {}
        except ValueError:
            raise SigningError(f"The request has a header {header} that is none of RFC 9421.", field=header) from None
        members.pop(label, None)
        kept.append(tuple(write_dictionary({name: item}) for name, item in members.items()))
        if values:
            left = tuple(pair for pair in request.headers if pair[0].lower() != header)
            request = evolve(request, headers=left)
            if members:
                request = request.with_header(header.title(), ", ".join(kept[-1]))
    return request, kept[0], kept[1]


def _mac(record: HttpSignature, secret: SecretStr, base: bytes) -> bytes:
    """``hmac-sha256`` (RFC 9421 §3.3.3)."""
    if record.algorithm != "hmac-sha256":
        raise SigningError(f"The signer http_signature cannot make {record.algorithm}.", field="auth.algorithm")
    return digest(secret_bytes(secret, record.secret_encoding), base, "sha256")
