"""Where the keys of a TOML text stand, for origins and for editing.

``tomllib`` gives the values; this gives line numbers and the exact span of each value. It reads text that ``tomllib``
has accepted, so it need not judge, only follow.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

Path = tuple[str | int, ...]
"""Keys from the top; an int is an index into an array of tables."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SPACE: Final = " \t"


@frozen
class Entry:
    """One ``key = value``: its path, the offset of its line, and the span of its value."""

    path: Path
    start: int
    value_start: int
    value_end: int


@frozen
class Header:
    """One ``[table]`` or ``[[array of tables]]``."""

    path: Path
    start: int
    end: int


@frozen
class Document:
    """Headers and entries of a TOML text in their order."""

    text: str
    headers: list[Header] = field(factory=list)
    entries: list[Entry] = field(factory=list)

    def line(self, offset: int) -> int:
        """The number of the line, from 1."""
        return self.text.count("\n", 0, offset) + 1

    def lines(self) -> dict[Path, int]:
        """Path → line. A table that only stands in the headers of its inner tables has the first one's line."""
        found: dict[Path, int] = {}
        for header in self.headers:
            for depth in range(1, len(header.path) + 1):
                found.setdefault(header.path[:depth], self.line(header.start))
        for entry in self.entries:
            found.setdefault(entry.path, self.line(entry.start))
        return found


def split_key(text: str) -> tuple[str, ...]:
    """The parts of a dotted key; parts may be quoted.

    Raises:
        ValueError: the text is not a dotted key.
    """
    parts, end = _key(text, 0)
    if end != len(text):
        raise ValueError(f"{text!r} is not a dotted key")
    return parts


def join_key(path: Path) -> str:
    """The dotted key of a path as one writes it: quoted where TOML wants quotes, indexes in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + quote_key(part)
    return text


def quote_key(part: str) -> str:
    """One part of a key, quoted where TOML wants quotes."""
    return part if _BARE.fullmatch(part) else quote(part)


def quote(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04X}" for c in escaped) + '"'


def scan(text: str) -> Document:
    """Follow a text that ``tomllib`` accepts."""
    document = Document(text)
    table: Path = ()
    counts: dict[Path, int] = {}
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\r\n":
            at += 1
        elif char == "#":
            at = _line_end(text, at)
        elif char == "[":
            brackets = 2 if text.startswith("[[", at) else 1
            parts, end = _key(text, at + brackets)
            table = _indexed(parts[:-1], counts) + parts[-1:]
            if brackets == 2:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            else:
                table = _indexed(parts, counts)
            document.headers.append(Header(table, at, end + brackets))
            at = end + brackets
        else:
            parts, end = _key(text, at)
            value_start = _skip_space(text, _skip_space(text, end) + 1)
            value_end = _value_end(text, value_start)
            document.entries.append(Entry((*table, *parts), at, value_start, value_end))
            at = value_end
    return document


def _indexed(parts: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """The path of a header: a part that is an array of tables stands for its last element."""
    path: Path = ()
    for part in parts:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A dotted key and where it ends, spaces after it included."""
    parts: list[str] = []
    while True:
        at = _skip_space(text, at)
        if at < len(text) and text[at] in "\"'":
            end = _string_end(text, at)
            parts.append(_unquoted(text[at:end]))
        else:
            found = _BARE.match(text, at)
            if found is None:
                raise ValueError(f"{text!r} is not a dotted key")
            end = found.end()
            parts.append(found.group())
        at = _skip_space(text, end)
        if at >= len(text) or text[at] != ".":
            return tuple(parts), at
        at += 1


def _unquoted(text: str) -> str:
    import tomllib

    value: str = tomllib.loads(f"k = {text}")["k"]
    return value


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _string_end(text: str, at: int) -> int:
    quote_char = text[at]
    if text.startswith(quote_char * 3, at):
        at += 3
        while not text.startswith(quote_char * 3, at):
            if at >= len(text):
                raise ValueError("a string does not end")
            at += 2 if text[at] == "\\" and quote_char == '"' else 1
        at += 3
        while text.startswith(quote_char, at):  # up to two quotes may stand before the closing three
            at += 1
        return at
    at += 1
    while at < len(text) and text[at] != quote_char:
        at += 2 if text[at] == "\\" and quote_char == '"' else 1
    if at >= len(text):
        raise ValueError("a string does not end")
    return at + 1


def _value_end(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        char = text[at]
        if char in "\"'":
            at = _string_end(text, at)
            if not depth:
                return at
        elif char in "[{":
            depth += 1
            at += 1
        elif char in "]}":
            depth -= 1
            at += 1
            if not depth:
                return at
        elif char == "#":
            if not depth:
                break
            at = _line_end(text, at)
        elif char == "\n" and not depth:
            break
        else:
            at += 1
    return len(text[:at].rstrip())
