"""What a person types for a kind that signs by itself: checked, and without a consent page."""

from __future__ import annotations

from collections.abc import Mapping

from go_services_core.auth.fields import is_stripped
from go_services_core.auth_specs import AuthSpec
from go_services_core.errors import BadInput
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import AuthContext, AuthStart, Flow
from go_services_core.secret import SecretStr

SHORT: tuple[str, ...] = ("issuer", "key_id", "subject")
"""Fields of one line; the others are key material."""


class SigningFlow:
    """No consent page, and nothing to give back: what ends the access is removing the key at the provider."""

    interactive = False
    fields: tuple[str, ...]
    optional: tuple[str, ...]
    """Those of ``fields`` that may be left out or blank."""

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """Refuse: there is no consent page."""
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint=f"Pass {', '.join(self.fields)} to Runtime.establish instead.",
            plugin="auth-jwt",
            field="auth",
        )

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those that are needed, and ``optional``."""
        return tuple(name for name in self.fields if name not in self.optional), self.optional

    def renewable(self, auth: AuthSpec, tokens: TokenSet) -> bool:
        """True unless the record says otherwise: another assertion is signed, no refresh token is needed."""
        return bool(getattr(auth, "refreshable", True))

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """False: an access token from an assertion ends by itself (RFC 7521 §4.1)."""
        yield from ()
        return False

    def take(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> dict[str, SecretStr]:
        """The fields that were filled in.

        Raises:
            BadInput: an unknown or missing field, or a line break where one line is wanted.
        """
        given = {name: value for name, value in params.items() if value}
        unknown = sorted(set(given) - set(self.fields))
        missing = [name for name in self.fields if name not in given and name not in self.optional]
        if unknown or missing:
            wrong = [f"{name} is not a field of it" for name in unknown] + [f"{name} is missing" for name in missing]
            raise BadInput(
                f"A credential of kind {ctx.auth.kind} takes {', '.join(self.fields)}: {'; '.join(wrong)}.",
                plugin="auth-jwt",
                field=(missing or unknown)[0],
            )
        for name, value in given.items():
            if name in SHORT and not (is_stripped(value) and value.reveal().isprintable()):
                raise BadInput(
                    f"The field {name} is one line without a space at its ends; it was probably pasted so.",
                    plugin="auth-jwt",
                    field=name,
                )
        return given
