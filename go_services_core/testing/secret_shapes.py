"""What secrets of well-known vendors look like: a recording that holds one of them may not be kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SHAPES: Final[Mapping[str, re.Pattern[str]]] = {
    kind: re.compile(shape)
    for kind, shape in {
        "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
        "Google access token": r"\bya29\.[A-Za-z0-9_-]{20,}",
        "Google refresh token": r"\b1//0[A-Za-z0-9_-]{20,}",
        "Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
        "Google client secret": r"\bGOCSPX-[A-Za-z0-9_-]{20,}",
        "AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
        "Shopify token": r"\bshp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
        "Facebook or Instagram token": r"\b(?:EAA|IGQ)[A-Za-z0-9]{50,}",
        "TikTok token": r"\b(?:act|rft|clt)\.[A-Za-z0-9!*]{30,}",
        "Pinterest token": r"\bpin[arc]_[A-Za-z0-9_-]{30,}",
        "Amazon token": r"\bAtz[ar]\|[A-Za-z0-9_-]{20,}",
        "Salesforce session": r"\b00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{20,}",
        "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{16,}",
        "Vault token": r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}",
        "package registry token": r"\b(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{20,})",
        "JSON Web Token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
        "private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{40,}",
    }.items()
}
PUBLISHED: Final = re.compile(r"EXAMPLE|16C7e42F292c6912E7710c838347Ae178B4a|0123456789")
"""In what vendors print in their documentation for everybody to use, and in what is plainly made up."""


def shapes_in(text: str) -> list[tuple[str, str]]:
    """Kind and text of each secret of a known shape in ``text``."""
    return [
        (kind, match[0])
        for kind, shape in SHAPES.items()
        for match in shape.finditer(text)
        if not PUBLISHED.search(match[0])
    ]
