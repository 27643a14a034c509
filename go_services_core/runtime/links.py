"""The Link header (RFC 8288 §3)."""

from __future__ import annotations

import re

from ..http import Headers

_TARGET = re.compile(r"<([^<>]*)>")
_PARAMETER = re.compile(r'(?:\s*;)+\s*([^\s;,="]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?')


def next_link(headers: Headers) -> str | None:
    """The target of the first link of this answer whose relation is ``next``, as it stands in the header.

    Of several ``rel`` parameters the first counts (§3.3); a link with an ``anchor`` is another resource's (§3.2).
    """
    for name, value in headers:
        if name.lower() != "link":
            continue
        position = 0
        while target := _TARGET.search(value, position):
            position = target.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(value, position):
                position = parameter.end()
                parameters.setdefault(parameter[1].lower(), parameter[2] or parameter[3] or "")
            if "next" in parameters.get("rel", "").lower().split() and "anchor" not in parameters:
                return target[1]
    return None
