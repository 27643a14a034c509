"""Credentials that a person or an operator types in: API key, personal access token, password, HMAC secret."""

from __future__ import annotations

from collections.abc import Mapping

from ..auth_specs import AuthSpec
from ..errors import BadInput, ReauthRequired
from ..http import check_header
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr
from .fields import is_stripped


class TypedFlow:
    """No consent page, nothing to renew, nothing to give back."""

    interactive = False
    fields: tuple[str, ...]

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint=f"Pass {', '.join(self.fields)} to Runtime.establish instead.",
            field="auth",
        )

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        yield from ()
        raise ReauthRequired(f"A credential of kind {ctx.auth.kind} cannot be renewed; enter a new one.")

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        yield from ()
        return False

    def _take(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> tuple[SecretStr, ...]:
        return tuple(take(ctx, params, self.fields).values())


class ApiKeyFlow(TypedFlow):
    """The flow behind ``ApiKey`` records; the field is ``key``."""

    fields: tuple[str, ...] = ("key",)

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take the key as it was typed."""
        yield from ()
        (key,) = self._take(ctx, params)
        return TokenSet(access_token=key, token_type="api_key")


class PersonalTokenFlow(TypedFlow):
    """The flow behind ``PersonalToken`` records; the field is ``token``."""

    fields: tuple[str, ...] = ("token",)

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take the token as it was typed."""
        yield from ()
        (token,) = self._take(ctx, params)
        return TokenSet(access_token=token, token_type="pat")


class BasicFlow(TypedFlow):
    """The flow behind ``Basic`` records; the fields are ``username`` and ``password``."""

    fields: tuple[str, ...] = ("username", "password")

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take both as they were typed; a colon cannot be in the user name (RFC 7617 §2)."""
        yield from ()
        username, password = self._take(ctx, params)
        if ":" in username.reveal():
            raise BadInput("A user name for basic authentication cannot hold a colon (RFC 7617 §2).", field="username")
        return TokenSet(access_token=password, token_type="basic", extra={"username": username})


class HmacFlow(TypedFlow):
    """The flow behind ``Hmac`` records; the fields are ``secret`` and ``key_id``, which says whose secret it is."""

    fields: tuple[str, ...] = ("secret",)

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The secret, and the key's id where the record sends it."""
        return (("key_id", "secret"), ()) if getattr(auth, "names_key", False) else (("secret",), ("key_id",))

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take both as they were typed. The secret is never sent, so that nobody is asked whether it is right."""
        yield from ()
        typed = take(ctx, params, *self.fields_for(ctx.auth))
        return TokenSet(access_token=typed.pop("secret"), token_type="hmac", extra=typed)


def take(
    ctx: AuthContext,
    params: Mapping[str, SecretStr],
    fields: tuple[str, ...],
    optional: tuple[str, ...] = (),
    *,
    lines: tuple[str, ...] = (),
) -> dict[str, SecretStr]:
    """What was typed, in the order of ``fields`` and then ``optional``; an optional field may be missing or empty.
    Those that ``lines`` names have several lines, such as PEM.

    Raises:
        BadInput: a field is missing, unknown, pasted with a space around it, or cannot stand in a header.
    """
    unknown = sorted(set(params) - {*fields, *optional})
    missing = [name for name in fields if not params.get(name)]
    if unknown or missing:
        wrong = [f"{name} is not a field of it" for name in unknown] + [f"{name} is missing" for name in missing]
        may = f", and may have {', '.join(optional)}" if optional else ""
        raise BadInput(
            f"A credential of kind {ctx.auth.kind} takes {', '.join(fields)}{may}: {'; '.join(wrong)}.",
            field=(missing or unknown)[0],
        )
    taken = {name: params[name] for name in (*fields, *optional) if name in fields or params.get(name)}
    for name, value in taken.items():
        if name in lines:
            continue
        if not is_stripped(value):
            raise BadInput(f"The field {name} begins or ends with a space; it was probably pasted so.", field=name)
        try:
            check_header("X", value.reveal())
        except BadInput:
            raise BadInput(f"The field {name} holds a line break or another forbidden character.", field=name) from None
    return taken
