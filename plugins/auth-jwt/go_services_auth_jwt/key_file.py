"""The JSON key file of a Google service account.

Format: https://cloud.google.com/iam/docs/keys-create-delete (type, project_id, private_key_id, private_key,
client_email, client_id, auth_uri, token_uri and certificate URLs).
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from go_services_core.errors import BadInput
from go_services_core.secret import SecretStr

from .strict_json import read_object

FIELD: Final = "service_account_json"
MOST_CHARACTERS: Final = 32_768


@frozen(kw_only=True)
class KeyFile:
    """What signing needs of the file. Its URLs are addresses that a stranger may have written: none is called."""

    client_email: str
    private_key: SecretStr = field(repr=False)
    private_key_id: str | None
    project_id: str | None
    token_uri: str | None


def read_key_file(text: SecretStr) -> KeyFile:
    """The content of a key file.

    Raises:
        BadInput: it is not JSON, a member occurs twice, it is another kind of credential, or one of the members
            ``client_email`` and ``private_key`` is missing; the message holds nothing of it.
    """
    try:
        return _read(text.reveal())
    except ValueError as why:
        reason = str(why)
    raise BadInput(  # out here, so that it leads to no frame that holds the file in clear
        f"The service account's key file {reason}.",
        hint="Create a key of type JSON for the service account and give the file as it is.",
        plugin="auth-jwt",
        field=FIELD,
    )


def _read(text: str) -> KeyFile:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"is longer than {MOST_CHARACTERS} characters")
    try:
        members = read_object(text)
    except ValueError as why:
        raise ValueError(f"cannot be read: {why}") from None
    kind = members.get("type")
    if kind != "service_account":
        known = kind in ("authorized_user", "external_account", "impersonated_service_account", "gdch_service_account")
        named = f"of type {kind}" if known else "of another type"
        raise ValueError(f"is {named}; it must be of type service_account")

    def member(name: str) -> str | None:
        found = members.get(name)
        if found is None:
            return None
        if not isinstance(found, str) or not found.strip():
            raise ValueError(f"has a member {name} that is not text, or is blank")
        return found

    email, key = member("client_email"), member("private_key")
    if email is None or key is None:
        raise ValueError(f"has no {'client_email' if email is None else 'private_key'}")
    return KeyFile(
        client_email=email,
        private_key=SecretStr(key),
        private_key_id=member("private_key_id"),
        project_id=member("project_id"),
        token_uri=member("token_uri"),
    )
