"""Setting and unsetting one value in a TOML file, without touching its comments and layout.

Only a scalar or an array in a table is edited. The result is parsed again, and written only when nothing but that key
has changed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .document import Document, join_key, quote, quote_key, scan, split_key


def set_value(path: str | Path, key: str, text: str) -> None:
    """Set a dotted key in the file, which is made if there is none (readable by its owner only).

    Args:
        path: The file.
        key: Dotted key below a table: ``store.url``.
        text: A TOML scalar or array; text that is neither is taken as a string.

    Raises:
        ConfigError: the key or the file cannot be edited so; the file is as it was.
    """
    file, parts = Path(path), _parts(key)
    before = _read(file, missing_ok=True)
    value, literal = _literal(text)
    document = _scanned(file, before)
    newline = "\r\n" if "\r\n" in before else "\n"
    entry = next((entry for entry in document.entries if entry.path == parts), None)
    line = f"{quote_key(parts[-1])} = {literal}"
    if entry is not None:
        after = before[: entry.value_start] + literal + before[entry.value_end :]
    else:
        at = _end_of_table(document, parts[:-1])
        if at is None:
            gap = "" if not before.strip() else newline if before.endswith("\n") else newline * 2
            after = f"{before}{gap}[{join_key(parts[:-1])}]{newline}{line}{newline}"
        else:
            start = "" if before[:at].endswith("\n") else newline
            after = f"{before[:at]}{start}{line}{newline}{before[at:]}"
    expected = _tree(file, before)
    _put(expected, parts, value, key)
    _write(file, after, expected, key)


def unset_value(path: str | Path, key: str) -> None:
    """Take a dotted key out of the file, with the comment on its line.

    Raises:
        ConfigError: the key is not in the file, or cannot be edited so; the file is as it was.
    """
    file, parts = Path(path), _parts(key)
    before = _read(file, missing_ok=False)
    document = _scanned(file, before)
    entry = next((entry for entry in document.entries if entry.path == parts), None)
    if entry is None:
        what = "stands inside a value or is a table, and is edited by hand" if _has(_tree(file, before), parts) else ""
        raise ConfigError(f"{key} {what or 'is not set'} in {file}.", field=key)
    start = before.rfind("\n", 0, entry.start) + 1
    end = before.find("\n", entry.value_end) + 1 or len(before)
    expected = _tree(file, before)
    node = expected
    for part in parts[:-1]:
        node = node[part]
    del node[parts[-1]]
    _write(file, before[:start] + before[end:], expected, key)


def _parts(key: str) -> tuple[str, ...]:
    try:
        parts = split_key(key)
    except ValueError:
        parts = ()
    if len(parts) < 2:
        raise ConfigError(f"{key!r} is not a dotted key such as store.url.", field=key)
    return parts


def _read(file: Path, *, missing_ok: bool) -> str:
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return opened.read()
    except FileNotFoundError:
        if missing_ok:
            return ""
        raise ConfigError(f"The configuration file {file} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error}.") from error


def _tree(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {file} is not valid TOML: {error}.") from error


def _scanned(file: Path, text: str) -> Document:
    _tree(file, text)
    return scan(text)


def _literal(text: str) -> tuple[Any, str]:
    """The value of ``text``, and how TOML writes it."""
    stripped = text.strip()
    with contextlib.suppress(tomllib.TOMLDecodeError):
        tree = tomllib.loads(f"v = {stripped}")
        if list(tree) == ["v"] and not isinstance(tree["v"], dict) and "\n" not in stripped and "#" not in stripped:
            return tree["v"], stripped
    return text, quote(text)


def _end_of_table(document: Document, table: tuple[str, ...]) -> int | None:
    """Where a new line of ``[table]`` goes: below its last entry, else below its header."""
    header = next((header for header in document.headers if header.path == table), None)
    if header is None:
        return None
    following = [other.start for other in document.headers if other.start > header.start]
    limit = min(following, default=len(document.text))
    ends = [entry.value_end for entry in document.entries if header.start < entry.start < limit]
    last = max(ends, default=header.end)
    return document.text.find("\n", last) + 1 or len(document.text)


def _has(tree: Any, parts: tuple[str, ...]) -> bool:
    for part in parts:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _put(tree: dict[str, Any], parts: tuple[str, ...], value: Any, key: str) -> None:
    node = tree
    for part in parts[:-1]:
        inner = node.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key} cannot be set: {part} is a value, not a table.", field=key)
        node = inner
    if isinstance(node.get(parts[-1]), dict):
        raise ConfigError(f"{key} is a table; set the values in it.", field=key)
    node[parts[-1]] = value


def _write(file: Path, text: str, expected: dict[str, Any], key: str) -> None:
    """Replace the file in one step, if ``text`` says exactly ``expected``."""
    try:
        right = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        hint = "It stands inside a value, or its table is written in an unusual way. Edit the file by hand."
        raise ConfigError(f"{key} cannot be changed in {file} without changing something else.", hint=hint, field=key)
    target = file.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise ConfigError(f"The configuration file {file} cannot be written: {error.strerror}.") from error
