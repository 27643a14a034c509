"""No file of the repository holds what a provider has really given out: recorded answers come with their tokens. P47."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from go_services_core.testing.secret_shapes import SHAPES, shapes_in

ROOT = Path(__file__).resolve().parents[1]
VECTORS = {
    "plugins/auth-jwt/tests/vectors.py": {"JSON Web Token"},  # those of RFC 7515, RFC 8037 and RFC 9449
    "plugins/auth-jwt/tests/message_vectors.py": {"private key"},  # those of RFC 9421 B.1
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
    return [f"{kind}: {secret[:12]}…" for kind, secret in shapes_in(text) if kind not in allowed]


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
