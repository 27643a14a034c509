"""Client certificates that a connection brings, for providers that know their clients by TLS (RFC 8446 §4.4.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..auth_specs import AuthSpec
from ..certificate import read_validity
from ..errors import BadInput, ReauthRequired
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr

_OPTIONAL = "passphrase"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)\n-----END \1-----", re.DOTALL)
_KEYS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"})


class MtlsFlow:
    """The flow behind ``Mtls`` records.

    The fields are ``certificate`` and ``private_key``, each the content of a PEM file, and ``passphrase`` where the key
    is encrypted. Of a text that was pasted into one line, ``\\n`` is read as a line break. The token set's
    ``access_token`` is the key, its ``expires_at`` the end of the certificate; certificate and passphrase are extras.
    """

    interactive = False
    fields: tuple[str, ...] = ("certificate", "private_key")

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """There is no consent page."""
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint=f"Pass {', '.join(self.fields)} to Runtime.establish instead.",
            field="auth",
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Take the certificate and its key. Whether they belong together is seen when TLS first loads them.

        Raises:
            BadInput: a field is missing, unknown or not what its name says, the certificate's time is over, or the key
                is encrypted and there is no passphrase.
        """
        yield from ()
        self._check_names(ctx, params)
        certificate = _lines(params["certificate"].reveal())
        key = SecretStr(_lines(params["private_key"].reveal()))
        labels = [label for label, _ in _BLOCK.findall(certificate)]
        if not labels or set(labels) != {"CERTIFICATE"}:
            raise BadInput(
                "The field certificate takes PEM certificates and nothing else.",
                hint="The client's own comes first, then those of its authorities; the key has a field of its own.",
                field="certificate",
            )
        try:
            validity = read_validity(certificate)
        except ValueError as reason:
            raise BadInput(f"The field certificate cannot be used: {reason}.", field="certificate") from None
        if validity.not_after <= ctx.now:
            raise BadInput(f"The certificate ended on {validity.not_after:%Y-%m-%d}.", field="certificate")
        encrypted = _is_encrypted(key)
        if encrypted != bool(params.get(_OPTIONAL)):
            text = "The private key is encrypted; its passphrase is missing."
            if not encrypted:
                text = "The private key is not encrypted; a passphrase does not belong to it."
            raise BadInput(text, field=_OPTIONAL)
        extra = {"certificate": SecretStr(certificate)}
        if encrypted:
            extra[_OPTIONAL] = params[_OPTIONAL]
        return TokenSet(access_token=key, token_type=ctx.auth.kind, expires_at=validity.not_after, extra=extra)

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Certificate and key, and a passphrase for a key that is encrypted."""
        return self.fields, (_OPTIONAL,)

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Whoever issued the certificate renews it.

        Raises:
            ReauthRequired: always.
        """
        yield from ()
        raise ReauthRequired(f"A credential of kind {ctx.auth.kind} cannot be renewed; enter a new one.")

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """False: only the authority that issued a certificate can revoke it (RFC 5280 §3.3)."""
        yield from ()
        return False

    def _check_names(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> None:
        unknown = sorted(set(params) - {*self.fields, _OPTIONAL})
        missing = [name for name in self.fields if not params.get(name)]
        wrong = [f"{name} is not a field of it" for name in unknown] + [f"{name} is missing" for name in missing]
        if wrong:
            raise BadInput(
                f"A credential of kind {ctx.auth.kind} takes {', '.join(self.fields)}, and may have {_OPTIONAL}: "
                f"{'; '.join(wrong)}.",
                field=(missing or unknown)[0],
            )


def _lines(text: str) -> str:
    """The text as a file has it: with line breaks, and one at its end."""
    text = text.strip().replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\\n", "\n").strip()
    return text + "\n"


def _is_encrypted(key: SecretStr) -> bool:
    """Whether the one private key is encrypted (RFC 7468 §11; ``Proc-Type`` as of RFC 1421 §4.6.1.1)."""
    blocks = [(label, "Proc-Type: 4,ENCRYPTED" in content) for label, content in _BLOCK.findall(key.reveal())]
    keys = [block for block in blocks if block[0] in _KEYS]
    if len(keys) != 1 or any(label not in _KEYS | {"EC PARAMETERS"} for label, _ in blocks):
        raise BadInput(
            "The field private_key takes one PEM private key and nothing else.",
            hint='It begins with "-----BEGIN PRIVATE KEY-----", or names RSA, EC or ENCRYPTED there.',
            field="private_key",
        )
    ((label, legacy),) = keys
    return legacy or label == "ENCRYPTED PRIVATE KEY"
