"""A service that takes signed requests only: botocore checks each, and moto stands behind its STS."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HEADER_AUTH: dict[str, type[SigV4Auth]] = {"s3": S3SigV4Auth}
QUERY_AUTH: dict[str, type[SigV4QueryAuth]] = {"s3": S3SigV4QueryAuth}
WINDOW = 300.0
"""Seconds that a signature's time may be off."""

_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def run_moto() -> Iterator[str]:
    """moto's server in a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "moto did not start"
        yield url
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


class AwsServer:
    """Answers what is signed right with a report of the request, everything else with 403 and the reason."""

    def __init__(self, moto: str) -> None:
        self.moto = moto
        self.url = ""
        self.keys: dict[str, tuple[str, str | None]] = {}
        """Access key id → secret access key and session token."""
        self.over: set[str] = set()
        """Access key ids of keys whose session is over."""
        self.sessions_end = False
        """Whether every session is over at once."""
        self.denied = False
        """Whether STS denies access to the role."""
        self.objects: dict[str, bytes] = {}
        """What was uploaded in chunks, by path."""
        self.assumed: list[dict[str, str]] = []
        """The forms of the AssumeRole requests that were signed right."""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            id, service = self._check(request, body)
        except Refused as refused:
            return _refusal(refused)
        if request.path == "/sts":
            return await self._sts(request, body, service)
        return web.json_response(
            {"key": id, "service": service, "path": request.raw_path, "body": body.decode("utf-8", "replace")}
        )

    async def _sts(self, request: web.Request, body: bytes, service: str) -> web.Response:
        if service != "sts":
            return _refusal(Refused("SignatureDoesNotMatch", "signed for another service"))
        if self.denied:
            return _refusal(Refused("AccessDenied", "not authorized to perform: sts:AssumeRole"))
        self.assumed.append(dict(parse_qsl(body.decode(), strict_parsing=True)))
        headers = {name: request.headers[name] for name in ("Content-Type", "Authorization", "X-Amz-Date")}
        async with aiohttp.ClientSession() as session, session.post(self.moto, data=body, headers=headers) as answer:
            text = await answer.text()
        if answer.status == 200:
            made = {element.tag.rpartition("}")[2]: element.text or "" for element in ET.fromstring(text).iter()}
            self.keys[made["AccessKeyId"]] = made["SecretAccessKey"], made["SessionToken"]
        return web.Response(status=answer.status, text=text, content_type="text/xml")

    def _check(self, request: web.Request, body: bytes) -> tuple[str, str]:
        """Access key id and service of a request whose signature botocore makes too."""
        if "X-Amz-Signature" in request.query:
            base, _, query = request.raw_path.partition("?")
            given = dict(parse_qsl(query))
            kept = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-"))
            target = f"{base}?{kept}" if kept else base
            credential, names, signature = (
                given["X-Amz-Credential"],
                given["X-Amz-SignedHeaders"],
                given["X-Amz-Signature"],
            )
            stamp, token = given["X-Amz-Date"], given.get("X-Amz-Security-Token")
        else:
            algorithm, _, rest = request.headers.get("Authorization", "").partition(" ")
            if algorithm != "AWS4-HMAC-SHA256":
                raise Refused("MissingAuthenticationToken", "no signature")
            given = dict(part.split("=", 1) for part in rest.split(", "))
            target = request.raw_path
            credential, names, signature = given["Credential"], given["SignedHeaders"], given["Signature"]
            stamp, token = request.headers["X-Amz-Date"], request.headers.get("X-Amz-Security-Token")
        id, _, region, service, _ = credential.split("/")
        if id not in self.keys:
            raise Refused("InvalidClientTokenId", "unknown key")
        secret, expected_token = self.keys[id]
        if token != expected_token:
            raise Refused("InvalidClientTokenId", "wrong session token")
        moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        window = float(given.get("X-Amz-Expires", WINDOW))
        if abs((datetime.now(UTC) - moment).total_seconds()) > window:
            raise Refused("RequestExpired", "the signature's time is over")
        made = AWSRequest(method=request.method, url=f"http://{request.host}{target}", data=body)
        for name in names.split(";"):
            if name not in ("host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"):
                for value in request.headers.getall(name):
                    made.headers.add_header(name, value)
        credentials = Credentials(id, secret, token)
        auth: Any
        if "X-Amz-Signature" in given:
            auth = QUERY_AUTH.get(service, SigV4QueryAuth)(credentials, service, region, int(given["X-Amz-Expires"]))
        elif request.headers.get("X-Amz-Content-SHA256") == _Chunked.PAYLOAD:
            auth = _Chunked(credentials, service, region)
        else:
            auth = HEADER_AUTH.get(service, SigV4Auth)(credentials, service, region)
        with patch("botocore.auth.get_current_datetime", lambda: moment.replace(tzinfo=None)):
            auth.add_auth(made)
        if "X-Amz-Signature" in given:
            theirs = dict(parse_qsl(str(made.url).partition("?")[2]))["X-Amz-Signature"]
        else:
            theirs = made.headers["Authorization"].rpartition("Signature=")[2]
            if service == "s3" and request.headers["x-amz-content-sha256"] != made.headers["x-amz-content-sha256"]:
                raise Refused("XAmzContentSHA256Mismatch", "wrong hash of the body")
        if theirs != signature:
            raise Refused("SignatureDoesNotMatch", "wrong signature")
        if isinstance(auth, _Chunked):
            self.objects[request.path] = auth.read(made, body, signature)
            if len(self.objects[request.path]) != int(request.headers["X-Amz-Decoded-Content-Length"]):
                raise Refused("IncompleteBody", "another length than was announced")
        if id in self.over or (self.sessions_end and token is not None):
            raise Refused("ExpiredToken", "the session is over")
        return id, service


class _Chunked(S3SigV4Auth):  # type: ignore[misc, unused-ignore]
    """botocore's signature of a body in chunks, and of each chunk with botocore's key."""

    PAYLOAD = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

    def payload(self, request: Any) -> str:
        return self.PAYLOAD

    def read(self, made: Any, body: bytes, last: str) -> bytes:
        decoded = b""
        while True:
            head, _, body = body.partition(b"\r\n")
            size, _, given = head.partition(b";chunk-signature=")
            data, body = body[: int(size, 16)], body[int(size, 16) + 2 :]
            text = ["AWS4-HMAC-SHA256-PAYLOAD", made.context["timestamp"], self.credential_scope(made), last]
            last = self.signature("\n".join([*text, sha256(b"").hexdigest(), sha256(data).hexdigest()]), made)
            if given.decode() != last:
                raise Refused("SignatureDoesNotMatch", "wrong signature of a chunk")
            if not data:
                return decoded
            decoded += data


class Refused(Exception):
    """The request is not signed right: AWS's code and a reason."""


def _refusal(refused: Refused) -> web.Response:
    """An error as AWS's query services answer it."""
    code, message = refused.args
    text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return web.Response(status=403, text=text, content_type="text/xml")


@asynccontextmanager
async def run_server(moto: str) -> AsyncIterator[AwsServer]:
    """The service on a port of its own."""
    server = AwsServer(moto)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()
