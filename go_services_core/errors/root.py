"""The error that all others are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..live_secrets import masked

if TYPE_CHECKING:
    from ..secret import SecretStr


class ServicesError(Exception):
    """Something in go_services failed."""

    category: ClassVar[str] = "internal"
    status: int = 500
    code: ClassVar[str] = "SERVICE_INTERNAL_ERROR"
    retryable: bool = False
    resume: SecretStr | None = None
    """A token that ``Runtime.resume``, ``upload`` or ``download`` go on with, of a call that had got somewhere."""

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        plugin: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if message is None:
            message = (type(self).__doc__ or type(self).__name__).split("\n\n", 1)[0].strip()
        super().__init__(message := masked(message))
        self.message = message
        self.hint = masked(hint)
        self.plugin = plugin
        self.field = field
        self.metadata: dict[str, Any] = masked(dict(metadata or {}))

    def for_another(self) -> Self:
        """The same error as an object of its own, for another call: what is added to one is not in the other's."""
        twin = copy(self)
        twin.metadata = dict(self.metadata)
        return twin

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, Any]:
        """The stable, secret-free form that commands print and faces answer with."""
        fields: dict[str, Any] = {
            "code": self.code,
            "category": self.category,
            "status": self.status,
            "message": self.message,
        }
        for name in ("hint", "plugin", "field"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        if self.metadata:
            fields["metadata"] = self.metadata
        return fields


def failure_code(error: BaseException | None) -> str | None:
    """What an observation calls a failure: the error's code, or the name of a foreign exception."""
    if error is None:
        return None
    return error.code if isinstance(error, ServicesError) else type(error).__name__


def failure_text(error: BaseException) -> str:
    """What is said of a failure where others read it: the error's message; of a foreign exception, which may quote a
    secret, its name alone."""
    return error.message if isinstance(error, ServicesError) else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to ``name``, or None when none is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
