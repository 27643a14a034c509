"""Keys for HTTP Message Signatures (RFC 9421), which each connection brings."""

from __future__ import annotations

from collections.abc import Mapping

from ..auth_specs import AuthSpec, HttpSignature
from ..errors import BadInput, KeyInvalid, SigningError
from ..model import TokenSet
from ..protocols import AuthContext, Flow
from ..secret import SecretStr
from ..signing.shared_secret import secret_bytes
from .jose import required_jose
from .typed import TypedFlow, take


class HttpSignatureFlow(TypedFlow):
    """The flow behind ``HttpSignature`` records.

    The fields are ``secret`` for ``hmac-sha256``, ``private_key`` (PEM or JWK) for the other algorithms, and
    ``key_id``, under which the server knows the key.
    """

    fields: tuple[str, ...] = ("key_id", "private_key")

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The key, and its id where the record sends it."""
        assert isinstance(auth, HttpSignature)
        needed = _key_field(auth)
        return (("key_id", needed), ()) if "keyid" in auth.parameters else ((needed,), ("key_id",))

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take the key, if it can sign as the record wants it. Whether the server knows it is not asked.

        Raises:
            BadInput: a field is missing or unknown, or the key cannot sign so.
            ConfigError: the algorithm needs a plugin that is not installed.
        """
        yield from ()
        record = ctx.auth
        assert isinstance(record, HttpSignature)
        field = _key_field(record)
        typed = take(ctx, params, *self.fields_for(record), lines=("private_key",))
        key = typed.pop(field)
        key_id = typed["key_id"].reveal() if "key_id" in typed else ""
        if not (key_id.isascii() and key_id.isprintable()):
            raise BadInput("The field key_id holds a character that no signature can name.", field="key_id")
        try:
            if field == "secret":
                secret_bytes(key, record.secret_encoding)
            else:
                required_jose(ctx, f'algorithm = "{record.algorithm}"').message_signature(key, record.algorithm, b"")
        except (KeyInvalid, SigningError) as why:
            reason = why.message
        else:
            return TokenSet(access_token=key, token_type=record.kind, extra=typed)
        raise BadInput(reason, field=field)  # out here, so that it leads to no frame that holds the key in clear


def _key_field(record: HttpSignature) -> str:
    return "secret" if record.algorithm == "hmac-sha256" else "private_key"
