"""AWS access keys: used as they were typed, or to assume a role whose temporary keys are renewed through STS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..auth_specs import AssumeRole, AuthSpec, AwsSigV4
from ..errors import BadInput, ReauthRequired
from ..http import HttpResponse
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr
from ..signing.sigv4 import AwsKeys
from .sts import assume_role, read_role_keys
from .typed import take

_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_OVER = ("ExpiredToken", "ExpiredTokenException")
_OVER_IN_BODY = re.compile(
    rb'(?:<Code>\s*|"(?:__type|code|Code)"\s*:\s*"(?:[^"#]*#)?)ExpiredToken(?:Exception)?(?=\s*<|")'
)
_ROLE_ARN = re.compile(r"arn:[!-~]{16,2044}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")


class AwsSigV4Flow:
    """The flow behind ``AwsSigV4`` records.

    The fields are ``access_key_id`` and ``secret_access_key``, for temporary keys ``session_token`` too. Where the
    record has a role without its ARN, ``role_arn`` is needed as well; ``external_id`` may be given where the role has
    none, and ``access_token`` where the record has an ``access_token_header``.

    The secret access key that signs is the token set's ``access_token``; its ``access_key_id`` and ``session_token``
    are extras, and for a role also the keys that assume it: ``source_access_key_id``, ``source_secret_access_key``,
    ``source_session_token``, ``role_arn`` and ``external_id``.

    The account of a role is its ARN, which STS has then proven. Of keys without a role nobody says whose they are: AWS
    has its users replace them, and new ones are then the same connection's.
    """

    interactive = False
    fields: tuple[str, ...] = ("access_key_id", "secret_access_key")

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """There is no consent page."""
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint=f"Pass {', '.join(self.fields)} to Runtime.establish instead.",
            field="auth",
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take the keys as they were typed, or those of the role that they assume.

        Raises:
            BadInput: a field is missing, unknown or cannot be one.
            TokenEndpointError, RateLimited, ProviderUnavailable: STS gave no keys for the role.
        """
        record = _record(ctx)
        role = record.role
        typed = take(ctx, params, *self.fields_for(record))
        for name, form in (
            ("access_key_id", _ACCESS_KEY_ID),
            ("role_arn", _ROLE_ARN),
            ("external_id", _EXTERNAL_ID),
        ):
            if name in typed and not form.fullmatch(typed[name].reveal()):
                raise BadInput(f"The field {name} is not what AWS gives out under that name.", field=name)
        secret = typed.pop("secret_access_key")
        if role is None:
            return TokenSet(access_token=secret, token_type=record.kind, extra=typed)
        source = {"source_access_key_id": typed.pop("access_key_id"), "source_secret_access_key": secret}
        if "session_token" in typed:
            source["source_session_token"] = typed.pop("session_token")
        return (yield from _assume(ctx, role, {**typed, **source}))

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The fields that a credential of this record needs, and those that it may have."""
        assert isinstance(auth, AwsSigV4)
        role = auth.role
        needed, optional = self.fields, ["session_token"]
        if role is not None:
            needed += ("role_arn",) if role.arn is None else ()
            optional += ["external_id"] if role.external_id is None else []
        if auth.access_token_header is not None:
            optional.append("access_token")
        return needed, tuple(optional)

    def renewable(self, auth: AuthSpec, tokens: TokenSet) -> bool:
        """Whether these are keys of a role: those that assume it are kept with them."""
        return "source_access_key_id" in tokens.extra

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Assume the role again with the keys that were typed; keys without a role are not renewed.

        Raises:
            ReauthRequired: the connection's keys were typed for no role.
            InvalidGrant: the access key or the role is gone, or the typed keys were temporary and are over.
            TokenEndpointError, RateLimited, ProviderUnavailable: STS gave no keys this time.
        """
        role = _record(ctx).role
        extra = credential.tokens.extra
        if role is None or "source_access_key_id" not in extra:
            raise ReauthRequired("AWS keys without a role cannot be renewed; enter new ones.")
        return (yield from _assume(ctx, role, extra))

    def refused(self, response: HttpResponse) -> bool:
        """Whether the answer says that the keys are over: S3 and others do so with 400, most with 403, none with 401.

        Errors have their code in XML, in JSON or in a header, by the service's protocol (AWS Signature Version 4 error
        responses; S3 API Reference, Error Responses).
        """
        named = response.header("x-amzn-errortype") or ""
        return response.status in (400, 403) and (
            named.partition(":")[0] in _OVER or _OVER_IN_BODY.search(response.body[:4096]) is not None
        )

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """AWS has no call that gives keys back: an administrator deletes them."""
        yield from ()
        return False


def _assume(ctx: AuthContext, role: AssumeRole, kept: Mapping[str, SecretStr]) -> Flow[TokenSet]:
    """The role's keys; ``kept`` are the extras that stay: the keys that assume it and what else was typed."""
    record = _record(ctx)
    secret, token = kept["source_secret_access_key"], kept.get("source_session_token")
    arn = role.arn or (kept["role_arn"].reveal() if "role_arn" in kept else None)
    if arn is None:
        raise ReauthRequired("The connection was made for the provider's own role; enter its role_arn.")
    typed_id = kept.get("external_id")
    external_id = role.external_id or (typed_id.reveal() if typed_id is not None else None)
    source = AwsKeys(access_key_id=kept["source_access_key_id"].reveal(), secret_access_key=secret, session_token=token)
    response: HttpResponse = yield assume_role(record, role, source, arn=arn, external_id=external_id, now=ctx.now)
    hidden = (secret, token, SecretStr(external_id) if external_id is not None else None)
    made = read_role_keys(response, now=ctx.now, sent=hidden, temporary=token is not None)
    assert made.keys.session_token is not None
    return TokenSet(
        access_token=made.keys.secret_access_key,
        token_type=record.kind,
        expires_at=made.expires_at,
        extra={
            **kept,
            "access_key_id": SecretStr(made.keys.access_key_id, name=True),
            "session_token": made.keys.session_token,
        },
        account=arn,
    )


def _record(ctx: AuthContext) -> AwsSigV4:
    assert isinstance(ctx.auth, AwsSigV4)
    return ctx.auth
