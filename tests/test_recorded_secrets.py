"""No file of the repository holds what a provider has really given out: recorded answers come with their tokens. P47."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {
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
}
PUBLISHED = re.compile(r"EXAMPLE|16C7e42F292c6912E7710c838347Ae178B4a|0123456789")
"""In what vendors print in their documentation for everybody to use, and in what is plainly made up."""
VECTORS = {
    "plugins/auth-jwt/tests/vectors.py": {"JSON Web Token"},  # those of RFC 7515, RFC 8037 and RFC 9449
}
SAMPLES = {
    "GitHub token": "ghp_" + "a1B2" * 9,
    "Google access token": "ya29." + "a0AfH6SM" * 4,
    "Google refresh token": "1//0" + "gA1b2C3d" * 4,
    "Google API key": "AIza" + "a1B2c" * 7,
    "Google client secret": "GOCSPX-" + "a1B2" * 6,
    "AWS access key": "AKIA" + "Q1W2" * 4,
    "Slack token": "xoxb-" + "1234567890-",
    "Shopify token": "shpat_" + "0a1b" * 8,
    "Facebook or Instagram token": "EAA" + "a1B2c" * 12,
    "TikTok token": "act." + "a1B2c" * 8,
    "Pinterest token": "pina_" + "A1B2C" * 8,
    "Amazon token": "Atza|" + "IwEBIA1b" * 4,
    "Salesforce session": "00D" + "5g000004ABC" + "EAQ1" + "!" + "AQ4AQ1b2" * 4,
    "Stripe key": "sk_live_" + "a1B2" * 6,
    "Vault token": "hvs." + "CAESI" * 6,
    "package registry token": "npm_" + "a1B2" * 9,
    "JSON Web Token": "eyJ" + "hbGciOiJSUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + "a1B2c3" * 6,
    "private key": "-----BEGIN " + "PRIVATE KEY-----\n" + "MIIEvQIB" * 8,
}


def found(text: str, name: str = "") -> list[str]:
    """The kinds of secrets that stand in a file, with the beginning of each."""
    allowed = VECTORS.get(name, set())
    return [
        f"{kind}: {match[0][:12]}…"
        for kind, shape in SHAPES.items()
        if kind not in allowed
        for match in re.finditer(shape, text)
        if not PUBLISHED.search(match[0])
    ]


def test_no_tracked_file_holds_a_secret_of_a_known_shape() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 300
    guilty = {name: kinds for name in names if (kinds := found((ROOT / name).read_text("utf-8", "replace"), name))}
    assert guilty == {}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_recorded_secret_would_be_found(kind: str) -> None:
    assert [one.partition(":")[0] for one in found(f'{{"recorded": "{SAMPLES[kind]}"}}')] == [kind]


def test_examples_that_vendors_publish_are_no_secrets() -> None:
    assert found("AKIAIOSFODNN7EXAMPLE") == []
