"""Resume tokens: where a list is to be continued, by another process or much later."""

from __future__ import annotations

import binascii
import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from ..errors import BadInput, CannotOpen, KeyNotFound
from ..model import KeyRef, Sealed
from . import bindings
from .core import Core, Loaded
from .page_steps import Position

_PREFIX: Final = "gsp1"
"""Form and version; another form gets another one."""


@frozen(repr=False)
class Mark:
    """A place in a list."""

    position: Position
    skip: int = 0
    """Items at the beginning of the page that were given already."""


def digest_of(operation_id: str, params: Mapping[str, Any]) -> str:
    """What a token is good for: this operation with these parameters.

    Raises:
        BadInput: a parameter has no JSON form.
    """
    try:
        text = json.dumps([operation_id, params], sort_keys=True, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"The parameters of operation {operation_id} cannot be told apart: {error}.") from None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not a value of JSON")


async def issue(core: Core, loaded: Loaded, digest: str, mark: Mark) -> str:
    """The token for ``mark``. It is sealed: a cursor or URL of a provider may hold a secret."""
    content = {"d": digest, "u": mark.position.url, "v": mark.position.value, "s": mark.skip}
    connection = loaded.connection
    binding = bindings.resume(connection.id, connection.provider_id, connection.scope)
    sealed = await core.sealer.seal(json.dumps(content).encode(), binding)
    key = json.dumps([sealed.key.backend, sealed.key.key_id, sealed.key.key_version]).encode()
    return ".".join((_PREFIX, _text(key), _text(sealed.ciphertext)))


async def read(core: Core, loaded: Loaded, digest: str, token: str) -> Mark:
    """The place that a token stands for.

    Raises:
        BadInput: it is no token, was changed, or belongs to another connection, operation or parameters.
        SecretError: its key cannot be used now.
    """
    connection = loaded.connection
    binding = bindings.resume(connection.id, connection.provider_id, connection.scope)
    try:
        form, key, ciphertext = token.split(".")
        backend, key_id, version = json.loads(_bytes(key))
        sealed = Sealed(ciphertext=_bytes(ciphertext), key=KeyRef(str(backend), str(key_id), version))
        # Without a backend it would be read in the format of the Go system, which binds a value to nothing.
        if form != _PREFIX or not isinstance(version, int) or not backend:
            raise ValueError
        opened = await core.sealer.open(sealed, binding)
    except (ValueError, TypeError, AttributeError, CannotOpen, KeyNotFound):
        raise BadInput(
            "The resume token is no token of this connection.",
            hint="Give it as it came, with the connection that it came from; or begin the list again.",
            field="resume",
        ) from None
    content = json.loads(opened.reveal())
    if content["d"] != digest:
        raise BadInput(
            "The resume token is of another operation, or of other parameters.",
            hint="Give the same operation and parameters as before.",
            field="resume",
        )
    return Mark(Position(content["u"], content["v"]), content["s"])


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError from None
