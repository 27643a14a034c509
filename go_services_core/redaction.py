"""Removing known secret values from text that comes from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

from .secret import MASK, SecretStr

SHORTEST = 6
"""Shorter values are not searched for: they would shred ordinary text."""


def scrub(text: str, secrets: Iterable[SecretStr | None], *, limit: int = 300) -> str:
    """``text`` without the secrets' values, cut to ``limit`` characters, control characters made visible.

    A value is also found percent-encoded (RFC 3986) and escaped as in JSON. ``text`` has to be whole: half a secret at
    its end would not be found.
    """
    values = {secret.reveal() for secret in secrets if secret is not None and len(secret.reveal()) >= SHORTEST}
    forms = {form for value in values for form in _forms(value)}
    for form in sorted(forms, key=len, reverse=True):  # a secret that is part of another must not cut that one
        text = text.replace(form, MASK)
    shown = "".join(c if c.isprintable() else "�" for c in text[:limit])
    return shown if len(text) <= limit else shown[:-1] + "…"


def _forms(value: str) -> tuple[str, ...]:
    percent = quote(value, safe="", errors="replace")
    escaped = json.dumps(value)[1:-1]
    return value, percent, percent.replace("%20", "+"), escaped, escaped.replace("/", "\\/")
