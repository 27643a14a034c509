"""The plaintext inside sealed rows: credentials, what an attempt remembers, and inbound requests."""

from __future__ import annotations

import json
from collections.abc import Mapping

from attrs import evolve

from ..errors import CannotOpen
from ..http import InboundRequest
from ..model import Connection, Credential, SealedCredential, TokenSet
from ..secret import SecretBytes, SecretStr

CREDENTIAL_FORMAT = "token_set_json"
CREDENTIAL_VERSION = 1


def encode_tokens(tokens: TokenSet) -> bytes:
    """The secrets of a token set; what is not secret stands in the row beside it."""
    fields: dict[str, object] = {"access_token": tokens.access_token.reveal()}
    for name in ("refresh_token", "id_token"):
        value: SecretStr | None = getattr(tokens, name)
        if value is not None:
            fields[name] = value.reveal()
    if tokens.extra:
        fields["extra"] = {name: value.reveal() for name, value in tokens.extra.items()}
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_credential(plaintext: SecretBytes, row: SealedCredential, connection: Connection) -> Credential:
    """The credential of a row.

    Raises:
        CannotOpen: the row says another payload format or version than this release writes.
    """
    if (row.payload_format, row.payload_version) != (CREDENTIAL_FORMAT, CREDENTIAL_VERSION):
        raise CannotOpen(
            f"The credential of connection {row.connection_id} has the payload format "
            f"{row.payload_format} version {row.payload_version}, which this release cannot read."
        )
    fields = json.loads(plaintext.reveal())
    tokens = TokenSet(
        access_token=SecretStr(fields["access_token"]),
        token_type=row.token_type,
        refresh_token=SecretStr(fields["refresh_token"]) if "refresh_token" in fields else None,
        expires_at=row.expires_at,
        refresh_expires_at=row.refresh_expires_at,
        granted=row.granted,
        id_token=SecretStr(fields["id_token"]) if "id_token" in fields else None,
        extra={name: SecretStr(value) for name, value in fields.get("extra", {}).items()},
    )
    return Credential(
        connection_id=connection.id,
        version=row.version,
        auth_kind=connection.auth_kind,
        tokens=tokens,
        requested=row.requested,
        granted=row.granted,
        refreshable=row.refreshable,
    )


def carry_over(new: TokenSet, old: TokenSet) -> TokenSet:
    """``new`` with what its answer left out because it is unchanged (RFC 6749 §5.1 and §6)."""
    return evolve(
        new,
        refresh_token=new.refresh_token or old.refresh_token,
        refresh_expires_at=new.refresh_expires_at or (None if new.refresh_token else old.refresh_expires_at),
        granted=old.granted if new.granted is None else new.granted,
        id_token=new.id_token or old.id_token,
        extra={**old.extra, **new.extra},
    )


def encode_memory(memory: Mapping[str, SecretStr]) -> bytes:
    """What a flow asked to be remembered between begin and complete."""
    return json.dumps({name: value.reveal() for name, value in memory.items()}, separators=(",", ":")).encode()


def decode_memory(plaintext: SecretBytes) -> dict[str, SecretStr]:
    """The inverse of ``encode_memory``."""
    return {name: SecretStr(value) for name, value in json.loads(plaintext.reveal()).items()}


def encode_request(request: InboundRequest) -> bytes:
    """Request line, headers and body of a delivery as one blob: a line of JSON, then the body as it was."""
    head = {"method": request.method, "target": request.target, "headers": request.headers}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + request.body


def decode_request(plaintext: SecretBytes) -> InboundRequest:
    """The inverse of ``encode_request``."""
    head, _, body = plaintext.reveal().partition(b"\n")
    fields = json.loads(head)
    headers = tuple((name, value) for name, value in fields["headers"])
    return InboundRequest(fields["method"], fields["target"], headers, body)
