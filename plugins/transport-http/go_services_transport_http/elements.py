"""Elements of XML, written from parameters and read into dicts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from xml.parsers import expat

from attrs import Factory, define

from go_services_core.errors import BadInput, ResponseInvalid

_NAME: Final = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_.-]*):)?[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document may have (§2.2), however they are written."""
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
_IN_TEXT: Final = str.maketrans({key: _ESCAPES[key] for key in "&<>\r"})
_IN_ATTRIBUTE: Final = str.maketrans(_ESCAPES)


def escaped(text: str, *, field: str) -> str:
    """``text`` as it stands between tags.

    Raises:
        BadInput: it has a character that XML cannot carry.
    """
    return _allowed(text, field).translate(_IN_TEXT)


def attribute(name: str, text: str, *, field: str) -> str:
    """An attribute, with a space before it; raises as :func:`escaped`."""
    return f' {name}="{_allowed(text, field).translate(_IN_ATTRIBUTE)}"'


def written(name: str, value: Any, prefixes: Collection[str], *, field: str) -> str:
    """The element ``name``, or several for a list, or none for None.

    Args:
        name: with one of ``prefixes``, or without any.
        value: text, number or boolean; a dict of elements, ``@attributes`` and ``#text``; a list of either.
        prefixes: those that are declared.
        field: the parameter that it comes from, for errors.

    Raises:
        BadInput: a name is none of XML's, its prefix is unknown, or a value has no form in XML.
    """
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return "".join(written(name, item, prefixes, field=field) for item in value)
    _check_name(name, prefixes, field)
    if not isinstance(value, Mapping):
        return f"<{name}>{escaped(_text(value, field), field=field)}</{name}>"
    attributes, content = "", ""
    for inner, given in value.items():
        if not isinstance(inner, str):
            raise BadInput(f"The parameter {field!r} has a name that is not text.", field=field)
        if inner.startswith("@"):
            _check_name(inner[1:], prefixes, field)
            if given is not None:
                attributes += attribute(inner[1:], _text(given, field), field=field)
        elif inner == "#text":
            content += escaped(_text(given, field), field=field)
        else:
            content += written(inner, given, prefixes, field=field)
    return f"<{name}{attributes}>{content}</{name}>"


def _check_name(name: str, prefixes: Collection[str], field: str) -> None:
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadInput(f"The parameter {field!r} has {name!r}, which no element can be called.", field=field)
    if found[1] is not None and found[1] not in prefixes:
        known = ", ".join(sorted(prefixes)) or "none"
        raise BadInput(f"The parameter {field!r} has the prefix {found[1]!r}; known are {known}.", field=field)


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    isoformat = getattr(value, "isoformat", None)
    if isoformat is not None:
        return str(isoformat())
    raise BadInput(f"The parameter {field!r} has a {type(value).__name__}, which has no form in XML.", field=field)


def _allowed(text: str, field: str) -> str:
    if _NOT_XML.search(text):
        raise BadInput(f"The parameter {field!r} has a character that XML cannot carry.", field=field)
    return text


@define
class Element:
    """One element that was read."""

    name: str
    """Local: without prefix and namespace."""
    namespace: str
    attributes: dict[str, str]
    children: list[Element] = Factory(list)
    text: str = ""

    def child(self, *names: str) -> Element | None:
        """The first element at a path of local names."""
        found: Element | None = self
        for name in names:
            found = next((inner for inner in found.children if inner.name == name), None) if found else None
        return found

    def said(self, *names: str) -> str:
        """The text at a path; empty where there is none."""
        found = self.child(*names)
        return found.text.strip() if found is not None else ""

    def data(self, lists: Collection[str] = ()) -> Any:
        """As Python data: text, or a dict where it has elements or attributes.

        An element that occurs again, and one of ``lists``, becomes a list. Prefixes are left out.
        """
        if not self.children and not self.attributes:
            return self.text
        made: dict[str, Any] = {f"@{name}": value for name, value in self.attributes.items()}
        counts: dict[str, int] = {}
        for inner in self.children:
            counts[inner.name] = counts.get(inner.name, 0) + 1
        for inner in self.children:
            value = inner.data(lists)
            if counts[inner.name] > 1 or inner.name in lists:
                made.setdefault(inner.name, []).append(value)
            else:
                made[inner.name] = value
        if self.text.strip():
            made["#text"] = self.text.strip()
        return made


def read(document: bytes, *, max_elements: int, max_depth: int) -> Element:
    """The root element of a document.

    A document type is refused, and with it every entity: neither a file nor a URL is read, nothing expands.

    Raises:
        ResponseInvalid: it is no XML, has a document type, or more or deeper elements than allowed.
    """
    reader = _Reader(max_elements, max_depth)
    fault: str | None = None
    try:
        reader.parser.Parse(document, True)
    except expat.ExpatError as error:
        fault = f"it is not XML (line {error.lineno})"
    except _Refused as error:
        fault = str(error)
    except (ValueError, LookupError):
        fault = "its encoding is unknown"
    if fault is not None or reader.root is None:
        raise ResponseInvalid(f"The answer cannot be read: {fault}.")
    return reader.root


class _Refused(Exception):
    """The document has what it may not have."""


class _Reader:
    def __init__(self, max_elements: int, max_depth: int) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.root: Element | None = None
        self._open: list[Element] = []
        self._pieces: list[list[str]] = []
        self._left = max_elements
        self._max_depth = max_depth

    def _doctype(self, *_: Any) -> None:
        raise _Refused("it has a document type, which SOAP forbids (SOAP 1.1 §3)")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Refused("it has too many elements")
        if len(self._open) >= self._max_depth:
            raise _Refused("its elements stand too deep in each other")
        namespace, _, local = name.rpartition(" ")
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        element = Element(local, namespace, plain)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._pieces.append([])

    def _end(self, name: str) -> None:
        self._open.pop().text = "".join(self._pieces.pop())

    def _characters(self, data: str) -> None:
        self._pieces[-1].append(data)
