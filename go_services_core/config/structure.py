"""From tables to attrs records, by the types of the fields: for settings classes and for providers declared in TOML."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path as FilePath
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs

from ..errors import PluginBroken, ServicesError, nearest
from ..secret import SecretStr
from .document import Path, join_key

T = TypeVar("T")
_INVALID: Any = object()
_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_REFERENCE = re.compile(r"[a-z][a-z0-9+.-]*:")


class Text(str):
    """A value out of an environment variable: text that is read as whatever the field's type wants."""

    __slots__ = ()


@cache
def hints(cls: Any) -> dict[str, Any]:
    """The types of a class's fields, resolved.

    Raises:
        PluginBroken: an annotation cannot be resolved, usually because its import is for type checkers only.
    """
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise PluginBroken(f"The fields of {cls.__module__}.{cls.__qualname__} cannot be read: {error}") from error


def fields_of(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """Name in the file → field."""
    made: dict[str, attrs.Attribute[Any]] = {
        field.alias or field.name: field for field in attrs.fields(cls) if field.init
    }
    return made


def is_secret(field: attrs.Attribute[Any], hint: Any) -> bool:
    """Whether a field holds secrets, by its mark or its type."""
    return bool(field.metadata.get("secret")) or hint is SecretStr or any(is_secret_type(a) for a in get_args(hint))


def is_secret_type(hint: Any) -> bool:
    """Whether a type is or contains ``SecretStr``."""
    return hint is SecretStr or any(is_secret_type(argument) for argument in get_args(hint))


class Reader:
    """Reads tables into records and gathers every problem instead of stopping at the first.

    ``missing`` holds the problems of required fields that are not set, apart from ``problems``: whether they matter
    depends on whether the record is used.
    """

    def __init__(
        self, *, origin: Callable[[Path], str], folder: FilePath, resolve: Callable[[str], SecretStr] | None
    ) -> None:
        self.problems: list[str] = []
        self.missing: list[str] = []
        self._origin = origin
        self._folder = folder
        self._resolve = resolve

    def problem(self, path: Path, text: str) -> None:
        """Note what is wrong with the value at ``path``: key, origin, and a text that ends with the remedy."""
        self.problems.append(f"{join_key(path)} ({self._origin(path)}): {text}")

    def unknown(self, path: Path, table: Iterable[str], known: Iterable[str]) -> None:
        """Note each key of ``table`` that is not ``known``."""
        known = sorted(known)
        for name in table:
            if name not in known:
                near = nearest(name, known)
                remedy = f"did you mean {near!r}?" if near else f"known are {', '.join(known) or 'none'}."
                self.problem((*path, name), f"there is no such setting; {remedy}")

    def strict(self, cls: type[T], table: Any, path: Path) -> T | None:
        """A record of ``cls`` that takes every key of ``table``; None when there was a problem."""
        if not isinstance(table, Mapping):
            self.problem(path, f"must be a table, not {_kind(table)}.")
            return None
        self.unknown(path, table, fields_of(cls))
        missing = len(self.missing)
        made = self.record(cls, table, path)
        self.problems += self.missing[missing:]
        del self.missing[missing:]
        return made

    def record(self, cls: type[T], table: Mapping[str, Any], path: Path) -> T | None:
        """A record of ``cls`` from those keys of ``table`` that are its fields; None when there was a problem."""
        values: dict[str, Any] = {}
        complete = True
        types_of = hints(cast("Any", cls))
        for name, field in fields_of(cls).items():
            if name in table:
                secret = bool(field.metadata.get("secret"))
                value = self.value(types_of.get(field.name, Any), table[name], (*path, name), secret=secret)
                if value is _INVALID:
                    complete = False
                else:
                    values[name] = value
            elif field.default is attrs.NOTHING:
                complete = False
                self.missing.append(_not_set((*path, name), field))
        if not complete:
            return None
        try:
            return cls(**values)
        except (TypeError, ValueError, ServicesError) as error:
            self.problem(path, f"{error}.".replace("..", "."))
            return None

    def value(self, hint: Any, raw: Any, path: Path, *, secret: bool = False) -> Any:
        """``raw`` as ``hint`` wants it, or a marker after noting the problem."""
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any or attrs.has(type(raw)):  # a record that was made already
            return raw
        if origin in (Union, types.UnionType):
            return self._union([a for a in arguments if a is not type(None)], raw, path, secret=secret)
        if origin is Literal:
            return self._literal(arguments, raw, path)
        if origin in (tuple, list) or hint in (tuple, list):
            return self._sequence(hint, origin or hint, arguments, raw, path, secret=secret)
        if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
            return self._mapping(arguments, raw, path, secret=secret)
        if attrs.has(hint):
            made = self.strict(hint, raw, path)
            return _INVALID if made is None else made
        if hint is SecretStr or secret:
            return self._secret(raw, path)
        return self._scalar(hint, raw, path)

    def _union(self, members: list[Any], raw: Any, path: Path, *, secret: bool) -> Any:
        if len(members) == 1:
            return self.value(members[0], raw, path, secret=secret)
        before = len(self.problems)
        for member in members:
            value = self.value(member, raw, path, secret=secret)
            if value is not _INVALID:
                del self.problems[before:]
                return value
        del self.problems[before:]
        self.problem(path, f"must be {' or '.join(_WANTED.get(m, type_name(m)) for m in members)}, not {_kind(raw)}.")
        return _INVALID

    def _literal(self, allowed: tuple[Any, ...], raw: Any, path: Path) -> Any:
        for value in allowed:
            if type(value) is type(raw) and value == raw:
                return value
            if isinstance(raw, Text) and str(value).lower() == raw.lower():
                return value
        near = nearest(raw, [str(value) for value in allowed]) if isinstance(raw, str) else None
        choices = ", ".join(repr(value) for value in allowed)
        self.problem(path, f"must be one of {choices}." + (f" Did you mean {near!r}?" if near else ""))
        return _INVALID

    def _sequence(self, hint: Any, kind: Any, arguments: tuple[Any, ...], raw: Any, path: Path, *, secret: bool) -> Any:
        if isinstance(raw, Text):
            raw = [Text(part.strip()) for part in raw.split(",") if part.strip()]
        if not isinstance(raw, (list, tuple)):
            self.problem(path, f"must be a list, not {_kind(raw)}.")
            return _INVALID
        element = arguments[0] if arguments else Any
        values = [self.value(element, item, (*path, index), secret=secret) for index, item in enumerate(raw)]
        return _INVALID if any(value is _INVALID for value in values) else kind(values)

    def _mapping(self, arguments: tuple[Any, ...], raw: Any, path: Path, *, secret: bool) -> Any:
        if not isinstance(raw, Mapping):
            self.problem(path, f"must be a table, not {_kind(raw)}.")
            return _INVALID
        element = arguments[1] if len(arguments) == 2 else Any
        values = {name: self.value(element, item, (*path, name), secret=secret) for name, item in raw.items()}
        return _INVALID if any(value is _INVALID for value in values.values()) else values

    def _secret(self, raw: Any, path: Path) -> Any:
        if isinstance(raw, SecretStr):
            return raw
        if not isinstance(raw, str):
            self.problem(path, f"must be a reference such as 'env:NAME', not {_kind(raw)}.")
            return _INVALID
        if self._resolve is None:
            return SecretStr(raw, name=_REFERENCE.match(raw) is not None)  # errors name references
        try:
            return self._resolve(str(raw))
        except ServicesError as error:
            self.problem(path, str(error))
            return _INVALID

    def _scalar(self, hint: Any, raw: Any, path: Path) -> Any:
        if isinstance(raw, Text):
            raw = _parsed(hint, raw)
        if isinstance(raw, SecretStr):
            self.problem(path, "is a secret, and this setting is not: it would be printed.")
            return _INVALID
        if hint is FilePath and isinstance(raw, (str, FilePath)):
            return self._folder / FilePath(raw).expanduser()
        if hint is float and type(raw) is int:
            return float(raw)
        if type(raw) is hint:
            return raw
        if hint is str and not isinstance(raw, (list, Mapping)):
            self.problem(path, f"must be text; write it in quotes, it is {_kind(raw)}.")
        else:
            self.problem(path, f"must be {_WANTED.get(hint, f'of the type {hint}')}, not {_kind(raw)}.")
        return _INVALID


_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    FilePath: "a path as text",
    datetime: "a date and time without quotes, such as 2027-01-31T00:00:00Z",
}


def _parsed(hint: Any, text: Text) -> Any:
    """Text as the type wants it; the plain text where it cannot be read so."""
    plain = str(text)
    lowered = plain.strip().lower()
    if hint is bool and lowered in _TRUE | _FALSE:
        return lowered in _TRUE
    if hint in (int, float):
        try:
            return hint(plain)
        except ValueError:
            return plain
    return plain


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "a table"
    for type_, name in ((str, "text"), (int, "a whole number"), (float, "a number"), ((list, tuple), "a list")):
        if isinstance(value, type_):
            return name
    return f"a value of type {type(value).__name__}"


def variable(path: Path) -> str:
    """The environment variable that sets the value at ``path``."""
    return "__".join(["GO_SERVICES", *(str(part).upper().replace("-", "_") for part in path)])


def _not_set(path: Path, field: attrs.Attribute[Any]) -> str:
    help = field.metadata.get("help", "")
    where = join_key(path[:-1])
    remedy = f"Put {path[-1]} into [{where}] of the configuration file, or set {variable(path)}."
    return f"{join_key(path)} is not set" + (f" ({help})" if help else "") + f". {remedy}"


def type_name(hint: Any) -> str:
    """A type as documentation shows it."""
    if hint is type(None):
        return "None"
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in get_args(hint) if argument is not type(None))
    if get_origin(hint) is Literal:
        return " | ".join(repr(argument) for argument in get_args(hint))
    arguments = [type_name(argument) for argument in get_args(hint) if argument is not Ellipsis]
    if get_origin(hint) in (tuple, list):
        return f"list of {arguments[0]}"
    if arguments:
        return f"table of {arguments[-1]}"
    if hint is SecretStr:
        return "secret"
    return {
        FilePath: "path",
        str: "text",
        bool: "true or false",
        int: "integer",
        float: "number",
        datetime: "date and time",
    }.get(hint, getattr(hint, "__name__", str(hint)))
