"""API keys, in a header or in the query."""

from __future__ import annotations

from urllib.parse import quote, unquote_plus

from ..auth_specs import ApiKey
from ..errors import SigningError
from ..http import HttpRequest
from ..protocols import SigningContext, SigningKey
from ..secret import SecretStr


class ApiKeySigner:
    """The key where the ``ApiKey`` record says: in its header, or as its query parameter, never in both."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        record = key.auth
        if not isinstance(record, ApiKey):
            raise SigningError(f"The signer api_key needs an ApiKey record, not {type(record).__name__}.")
        if record.query is not None:
            return request.with_url(_with_parameter(request.url, record.query, key.secret))
        if record.header is None:
            raise SigningError("The ApiKey record names neither a header nor a query parameter.", field="auth.header")
        prefix = f"{record.prefix} " if record.prefix else ""
        return request.with_header(record.header, prefix + key.secret.reveal())


def _with_parameter(url: str, name: str, value: SecretStr) -> str:
    """``url`` with ``name`` once, at the end of the query; every other byte stays as it was."""
    base, hash_mark, fragment = url.partition("#")
    address, _, query = base.partition("?")
    kept = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != name] if query else []
    try:
        kept.append(f"{quote(name, safe='')}={quote(value.reveal(), safe='')}")
    except UnicodeEncodeError:
        raise SigningError("The API key holds a character that cannot be encoded.", field="key") from None
    return f"{address}?{'&'.join(kept)}{hash_mark}{fragment}"
