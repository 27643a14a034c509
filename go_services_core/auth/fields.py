"""What a person types for a credential: which fields a kind takes, and which of them are names and no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..errors import BadInput
from ..secret import SecretStr

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..protocols import AuthFlow

NAMES: Final = frozenset(
    {
        "access_key_id",
        "expected_shop",
        "issued_token_type",
        "issuer",
        "key_id",
        "requested_token_type",
        "role_arn",
        "shop",
        "source_access_key_id",
        "subject",
        "subject_token_type",
        "username",
    }
)
"""Fields that say who or what it is. They are sealed like the others, but may be shown while they are typed, and a text
that holds one is not masked."""


def kept(name: str, value: str) -> SecretStr:
    """The value of a field as it is handed on and sealed."""
    return SecretStr(value, name=name in NAMES)


def concealed(fields: Mapping[str, SecretStr | str | None]) -> dict[str, SecretStr]:
    """What was typed, each value as a secret; None is as if it were left out.

    Raises:
        BadInput: a value is not text.
    """
    taken = {}
    for name, value in fields.items():
        if isinstance(value, str):
            taken[name] = kept(name, value)
        elif isinstance(value, SecretStr):
            taken[name] = value
        elif value is not None:
            raise BadInput(f"The field {name} is text, not {type(value).__name__}.", field=name)
    return taken


def fields_of(flow: AuthFlow, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that a credential of this record needs, and those that it may have."""
    chosen = getattr(flow, "fields_for", None)
    if chosen is None:
        return flow.fields, ()
    needed, optional = chosen(auth)
    return tuple(needed), tuple(optional)


def is_stripped(value: SecretStr) -> bool:
    """Whether no space stands at its ends."""
    return value.reveal() == value.reveal().strip()
