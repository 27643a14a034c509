"""Settings classes: an attrs class whose fields know their help, and whether they are secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import attrs

C = TypeVar("C", bound=type)


def setting(
    *,
    default: Any = attrs.NOTHING,
    help: str,
    secret: bool = False,
    example: str | None = None,
    rare: bool = False,
    validator: Callable[[Any, Any, Any], None] | None = None,
) -> Any:
    """A field of a settings class. Without ``default`` it is required.

    A ``secret`` setting has the type ``SecretStr`` (or a tuple of them) and takes a reference such as ``env:NAME`` or
    ``file:PATH``; a value in plain text is refused unless ``[runtime] allow_plaintext_secrets`` is true.
    A ``rare`` one is not asked for by ``go-services configure``; ``--set`` sets it.
    ``validator`` is one of attrs: it gets the record, the attribute and the value, and raises what names the remedy.
    """
    metadata = {"help": help, "secret": secret, "example": example, "rare": rare}
    return attrs.field(default=default, validator=validator, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
def settings(cls: C) -> C:
    """Make a settings class: frozen, keyword only. Fields may be str, int, float, bool, datetime, Path, SecretStr,
    Literal, frozen attrs records of those, or tuples and dictionaries of any of them, each also ``| None``. Methods and
    properties are free."""
    made: C = attrs.frozen(kw_only=True)(cls)
    return made
