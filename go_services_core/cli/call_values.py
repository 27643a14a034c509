"""What ``go-services call`` is given on its line, as values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UnknownParameter, nearest

if TYPE_CHECKING:
    from ..specs import Operation, Param

_JSON: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}

_FILES = {"upload": "--upload", "download": "--output"}
_A = {"upload": "an upload", "download": "a download", "stream": "a stream", "bulk": "a job"}
_KEYED = frozenset({"--idempotency-key", "--deadline", "--json"})
_PAGES = frozenset({"--all-pages", "--limit", "--page-limit", "--resume"})
_TAKES = {
    "upload": _KEYED | {"--upload"},
    "download": frozenset({"--output", "--deadline", "--json"}),
    "stream": frozenset({"--limit", "--json"}),
}
"""What operations of these kinds take beside parameters; others take the options of lists only if they are lists."""


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """``NAME=VALUE`` as a dictionary."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        found[name] = value
    return found


def of_operation(texts: tuple[str, ...], operation: Operation) -> dict[str, Any]:
    """Parameters of an operation, each of the type that it declares.

    Raises:
        UnknownParameter: the operation has no such parameter; the message has the nearest one.
    """
    params = {param.name: param for param in operation.params}
    given: dict[str, Any] = {}
    for name, value in pairs(texts, "--param").items():
        if name not in params:
            near = nearest(name, params)
            raise UnknownParameter(
                f"{operation.id} has no parameter {name!r}.",
                hint=f"Did you mean {near!r}?" if near else f"It takes {', '.join(params) or 'none'}.",
                field=name,
            )
        given[name] = _value(params[name], value)
    return given


def of_endpoint(params: tuple[str, ...], query: tuple[str, ...]) -> dict[str, Any]:
    """The values of an endpoint's path and its query, where a name may be given more than once."""
    given: dict[str, Any] = dict(pairs(params, "--param"))
    asked: dict[str, list[str]] = {}
    for text in query:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="--query")
        if name in given:
            raise click.BadParameter(f"{name} is given as --param too", param_hint="--query")
        asked.setdefault(name, []).append(value)
    return {**given, **asked}


def check_fits(operation: Operation, given: Collection[str], *, sends: bool) -> None:
    """Refuse options that the operation would have to ignore.

    Args:
        operation: what is called.
        given: the options on the line, of those that not every operation takes.
        sends: whether the call is made, and not only shown.
    """
    direction = getattr(operation.call, "direction", None)
    kind = direction or (operation.call.kind if operation.call is not None else "rest")
    if sends and direction in _FILES and _FILES[direction] not in given:
        raise click.UsageError(f"{operation.id} is {_A[direction]}: name the file with {_FILES[direction]}.")
    takes = _TAKES.get(kind, _PAGES | _KEYED if operation.pagination is not None else _KEYED)
    for option in given:
        if option not in takes:
            other = "no list" if option in _PAGES else "no transfer of a file"
            raise click.UsageError(f"{operation.id} is {_A.get(kind, other)}; it does not take {option}.")
    listed = _PAGES.intersection(given)
    if listed and "--idempotency-key" in given:
        raise click.UsageError(f"--idempotency-key is for one call; {min(listed)} makes several.")


def content_type_of(text: str | None, headers: Mapping[str, str]) -> Mapping[str, str]:
    """``headers``, with the content type that the name of ``@FILE`` tells where they have none."""
    import mimetypes

    if text is None or not text.startswith("@") or any(name.lower() == "content-type" for name in headers):
        return headers
    known, encoding = mimetypes.guess_type(text[1:])
    return headers if known is None or encoding is not None else {"Content-Type": known, **headers}


def body_of(text: str | None) -> Any:
    """JSON, or the bytes of a file."""
    if text is None:
        return None
    if text.startswith("@"):
        return _file(text[1:], "--body")
    try:
        return json.loads(text)
    except ValueError:
        raise click.BadParameter("it is not JSON; a file is given as @PATH", param_hint="--body") from None


def _value(param: Param, text: str) -> Any:
    if param.type == "bytes":
        if not text.startswith("@"):
            raise click.BadParameter(f"{param.name} is the content of a file: @PATH", param_hint="--param")
        return _file(text[1:], "--param")
    if param.type not in _JSON:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if value is None and param.nullable:
        return None
    if not isinstance(value, _JSON[param.type]) or (isinstance(value, bool) and param.type != "boolean"):
        raise click.BadParameter(
            f"{param.name} is {param.type}, and {text!r} is not (written as in JSON)", param_hint="--param"
        )
    return value


def _file(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint=option) from None
