"""AWS Signature Version 4 beside botocore: one request made and signed, the signing key of the day being known.

Peer: ``SigV4Auth.add_auth`` on an ``AWSRequest``, which is botocore's documented way; it derives the key each time.
Both sides sign the same request, each at its own now; tests/signing compares what they make of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from go_services_core.auth_specs import AwsSigV4
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.sigv4 import SigV4Signer

from .harness import Result, alternate, ratio

ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNED = 1000
"""Requests of one sample."""
URL = "https://api.example.com/v1/items"
QUERY = "?page=2&per_page=50&sort=name&order=desc&filter=a%20b&updated=2026-01-01T00%3A00%3A00Z"
CASES: dict[str, tuple[str, str, bytes | None, float]] = {
    "get": ("GET", URL, None, 5.0),
    "post-1k": ("POST", URL, b"x" * 1024, 5.0),
    "query-6": ("GET", URL + QUERY, None, 3.0),
}
"""Name → method, URL, body, and what ours has to be better by."""


def _timed(sign: Callable[[], object]) -> Callable[[], float]:
    def sample() -> float:
        began = time.perf_counter()
        for _ in range(SIGNED):
            sign()
        return SIGNED / (time.perf_counter() - began)

    return sample


def _ours(method: str, url: str, body: bytes | None) -> Callable[[], object]:
    signer = SigV4Signer()
    tokens = TokenSet(access_token=SecretStr(SECRET), extra={"access_key_id": SecretStr(ID, name=True)})
    credential = Credential(connection_id="c", version=1, auth_kind="aws_sigv4", tokens=tokens)
    auth = AwsSigV4(service="execute-api", region="eu-west-1")
    key = SigningKey(secret=tokens.access_token, auth=auth, credential=credential)

    def sign() -> object:
        request = HttpRequest(method, url, (("Content-Type", "application/json"),), body)
        return signer.sign(request, key, SigningContext(datetime.now(UTC), os.urandom))

    return sign


def _botocore(method: str, url: str, body: bytes | None) -> Callable[[], object]:
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    auth = SigV4Auth(Credentials(ID, SECRET), "execute-api", "eu-west-1")

    def sign() -> object:
        request = AWSRequest(method=method, url=url, headers={"Content-Type": "application/json"}, data=body)
        auth.add_auth(request)
        return request

    return sign


def sigv4() -> list[Result]:
    """Requests signed a second, for a GET, a POST of 1 KiB and a GET with a query of six parameters."""
    results = []
    for name, (method, url, body, target) in CASES.items():
        samples, peer = alternate(_timed(_ours(method, url, body)), _timed(_botocore(method, url, body)))
        results.append(
            ratio(
                f"sigv4-{name}", better="higher", unit="1/s", samples=samples, peer_samples=peer,
                peer_name="botocore SigV4Auth.add_auth", target=target,
            )
        )  # fmt: skip
    return results


BENCHMARKS = {"sigv4": sigv4}
