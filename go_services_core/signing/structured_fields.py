"""Structured field values of HTTP (RFC 9651, without dates and display strings): read, and written canonically.

A bare item is an ``int``, ``float``, ``bool``, ``str`` (a string), ``bytes``, or a :class:`Token`. An :class:`Item` has
parameters beside it; an inner list is an ``Item`` whose value is a tuple of items.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, TypeAlias

from attrs import field, frozen

_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_NUMBER: Final = re.compile(r"-?(?:[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])|[0-9]{1,15}(?![0-9.]))")
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BYTES: Final = re.compile(r":([A-Za-z0-9+/=]*):")
_PRINTABLE: Final = re.compile(r"[ -~]*")
_ESCAPED: Final = re.compile(r'(["\\])')


class Token(str):
    """A token: text that is written without quotes."""

    __slots__ = ()


Bare: TypeAlias = int | float | bool | str | bytes | Token


@frozen
class Item:
    """A value and its parameters; an inner list where ``value`` is a tuple."""

    value: Bare | tuple[Item, ...]
    parameters: Mapping[str, Bare] = field(factory=dict)


def parse_dictionary(text: str) -> dict[str, Item]:
    """The members of a dictionary; the last of one name counts, at the first one's place (RFC 9651 §4.2.2).

    Raises:
        ValueError: it is none.
    """
    reader = _Reader(text)
    members: dict[str, Item] = {}
    for _ in reader.members():
        key = reader.take(_KEY)
        members[key] = reader.member() if reader.skip("=") else Item(True, reader.parameters())
    return members


def parse_list(text: str) -> tuple[Item, ...]:
    """The members of a list (RFC 9651 §4.2.1).

    Raises:
        ValueError: it is none.
    """
    reader = _Reader(text)
    return tuple(reader.member() for _ in reader.members())


def parse_item(text: str) -> Item:
    """One item (RFC 9651 §4.2.3).

    Raises:
        ValueError: it is none.
    """
    reader = _Reader(text)
    found = reader.item()
    reader.end()
    return found


def write_dictionary(members: Mapping[str, Item]) -> str:
    """RFC 9651 §4.1.2."""
    return ", ".join(
        key + (write_parameters(item.parameters) if item.value is True else f"={write_item(item)}")
        for key, item in members.items()
    )


def write_list(items: tuple[Item, ...]) -> str:
    """RFC 9651 §4.1.1."""
    return ", ".join(map(write_item, items))


def write_item(item: Item) -> str:
    """An item or an inner list with its parameters (RFC 9651 §4.1.1.1 and §4.1.3)."""
    value = item.value
    text = f"({' '.join(map(write_item, value))})" if isinstance(value, tuple) else write_bare(value)
    return text + write_parameters(item.parameters)


def write_parameters(parameters: Mapping[str, Bare]) -> str:
    """RFC 9651 §4.1.1.2."""
    return "".join(
        f";{name}" if value is True else f";{name}={write_bare(value)}" for name, value in parameters.items()
    )


def write_bare(value: Bare) -> str:
    """RFC 9651 §4.1.3.1.

    Raises:
        ValueError: a string holds what is not printable ASCII; the message does not repeat it.
    """
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = f"{Decimal(str(value)).quantize(Decimal('0.001'), ROUND_HALF_EVEN):f}".rstrip("0")
        return f"{text}0" if text.endswith(".") else text
    if isinstance(value, bytes):
        return f":{b64encode(value).decode()}:"
    if isinstance(value, Token):
        return str(value)
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("a string holds what is not printable ASCII")
    escaped = _ESCAPED.sub(r"\\\1", value)
    return f'"{escaped}"'


class _Reader:
    """Reads from the left; every refusal is a ValueError that says where, not what."""

    def __init__(self, text: str) -> None:
        self._text = text.strip(" ")
        self._at = 0

    def _wrong(self) -> ValueError:
        return ValueError(f"not a structured field at character {self._at}")

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._wrong()
        self._at = found.end()
        return found[found.lastindex or 0]

    def skip(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def end(self) -> None:
        if self._at < len(self._text):
            raise self._wrong()

    def blank(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1

    def members(self) -> Iterator[None]:
        """Once before each member of a list or dictionary."""
        while self._at < len(self._text):
            yield
            self.blank(" \t")
            if self._at == len(self._text):
                return
            if not self.skip(","):
                raise self._wrong()
            self.blank(" \t")
            if self._at == len(self._text):
                raise self._wrong()  # a comma with nothing after it

    def member(self) -> Item:
        if not self.skip("("):
            return self.item()
        items: list[Item] = []
        while True:
            self.blank(" ")
            if self.skip(")"):
                return Item(tuple(items), self.parameters())
            if items and self._text[self._at - 1] != " ":
                raise self._wrong()
            items.append(self.item())

    def item(self) -> Item:
        value = self.bare()
        return Item(value, self.parameters())

    def parameters(self) -> dict[str, Bare]:
        found: dict[str, Bare] = {}
        while self.skip(";"):
            self.blank(" ")
            name = self.take(_KEY)
            found[name] = self.bare() if self.skip("=") else True
        return found

    def bare(self) -> Bare:
        first = self._text[self._at : self._at + 1]
        if first == '"':
            return re.sub(r"\\(.)", r"\1", self.take(_STRING))
        if first == ":":
            return b64decode(self.take(_BYTES), validate=True)
        if first == "?":
            self._at += 1
            if self.skip("1"):
                return True
            if self.skip("0"):
                return False
            raise self._wrong()
        if first == "-" or first.isdigit():
            text = self.take(_NUMBER)
            return float(text) if "." in text else int(text)
        return Token(self.take(_TOKEN))
