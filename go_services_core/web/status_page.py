"""The status as one HTML page. Everything that is shown was escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from .pages import page

_GOOD: Final = frozenset({"active"})
_QUIET: Final = frozenset({"disconnected"})


def status_page(found: Mapping[str, Any]) -> bytes:
    """The page for what ``status.gathered`` gives."""
    failing = [one for one in found["health"] if not one["ok"]]
    word = f"{len(failing)} of {len(found['health'])} checks fail" if failing else "All checks pass"
    parts = [
        f'<h1>go_services <span class="dim">{escape(found["version"])}</span></h1>',
        f'<p class="{"bad" if failing else "good"}">{word}</p>',
        _section(
            "Checks",
            ("Check", "State", "Detail"),
            (
                (_code(one["check"]), _mark("ok" if one["ok"] else "fails", good=one["ok"]), _detail(one))
                for one in found["health"]
            ),
            "There are no checks.",
        ),
        _section(
            "Providers",
            ("Provider", "Name", "Authentication", "Webhooks", "Connections"),
            (
                (
                    _code(one["id"]),
                    escape(one["name"]),
                    escape(", ".join(one["auth"])),
                    "yes" if one["webhooks"] else _dim("no"),
                    _counts(one["connections"]),
                )
                for one in found["providers"]
            ),
            "No provider is configured.",
        ),
        _section(
            "Queues",
            ("Queue", "Due", "Oldest waits", "Dead"),
            (
                (_code(one["queue"]), str(one["due"]), f"{one['lag_seconds']:g} s", _bad_if(one["dead"]))
                for one in found["queues"]
            ),
            "This store does not tell.",
        ),
        _section(
            "Workers",
            ("Process", "State", "Last sign of life", "Done", "Failed"),
            (
                (
                    _code(f"{one['host']}:{one['pid']}"),
                    _mark("alive" if one["alive"] else "silent", good=one["alive"]),
                    f"{one['beat_seconds_ago']:g} s ago",
                    str(one["done"]),
                    _bad_if(one["failed"]),
                )
                for one in found["workers"]
            ),
            "No process works on the queues. Start one: go-services worker run.",
        ),
        _section(
            "Connections that need a person",
            ("Connection", "Provider", "Scope", "State"),
            (
                (_code(one["id"]), _code(one["provider_id"]), _code(one["scope"]), _mark(one["status"], good=False))
                for one in found["attention"]
            ),
            "None.",
        ),
        _section(
            "Newest failures of this process",
            ("When (UTC)", "What", "Provider", "Connection", "Code"),
            (
                (
                    escape(one["at"].strftime("%Y-%m-%d %H:%M:%S")),
                    _code(one["what"]),
                    _code(one["provider_id"]),
                    _code(one["connection_id"]),
                    _code(one["code"]),
                )
                for one in found["failures"]
            ),
            "None.",
        ),
    ]
    return page("go_services status", f"<main>{''.join(parts)}</main>")


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """A table of cells that are HTML, or ``empty``."""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return f'<h2>{escape(title)}</h2><p class="dim">{escape(empty)}</p>'
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    return (
        f'<h2>{escape(title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _code(text: str | None) -> str:
    return f"<code>{escape(text)}</code>" if text else _dim("–")


def _dim(text: str) -> str:
    return f'<span class="dim">{escape(text)}</span>'


def _mark(text: str, *, good: bool) -> str:
    return f'<span class="{"good" if good else "bad"}">{escape(text)}</span>'


def _bad_if(count: int) -> str:
    return _mark(str(count), good=False) if count else "0"


def _detail(one: Mapping[str, Any]) -> str:
    remedy = f" {_dim(one['remedy'])}" if one["remedy"] else ""
    return escape(one["detail"] or "") + remedy


def _counts(counts: Mapping[str, int]) -> str:
    """States and how many; those that go well first."""
    shown = []
    for state in sorted(counts, key=lambda one: (one not in _GOOD, one)):
        text = f"{counts[state]} {state}"
        shown.append(_dim(text) if state in _QUIET else _mark(text, good=state in _GOOD))
    return "<br>".join(shown) or _dim("none")
