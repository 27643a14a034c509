"""A server on loopback that speaks as much of the KMS protocol (JSON 1.1) as the tests of key states and faults need.

It keeps AES keys with states, checks the whole signature (SigV4), counts operations, and fails as it is told.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCESS_KEY, SECRET_KEY = "AKIDSTUB", "stub-secret-access-key"


class Refusal(Exception):
    """An error answer of KMS."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Key:
    def __init__(self, arn: str, material: bytes | None = None) -> None:
        self.arn, self.material = arn, material or os.urandom(32)
        self.state = "Enabled"
        self.denied: str | None = None
        self.deletion: float | None = None
        self.rotations = 0


class KmsStub:
    """One Region of KMS. ``faults`` are raised, one per request, before it is looked at; without them ``always`` is."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.keys: dict[str, Key] = {}
        self.aliases: dict[str, str] = {}
        self.faults: list[Refusal] = []
        self.always: Refusal | None = None
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda _: None
        self.port = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_key(self, id: str, *, alias: str | None = None, material: bytes | None = None) -> Key:
        key = Key(f"arn:aws:kms:{self.region}:111122223333:key/{id}", material)
        self.keys[key.arn] = key
        if alias is not None:
            self.aliases[alias] = key.arn
        return key

    def answer(self, target: str, body: dict[str, Any], headers: dict[str, str], raw: bytes) -> dict[str, Any]:
        service, _, operation = target.partition(".")
        assert service == "TrentService", target
        with self._lock:
            self.calls[operation] += 1
            fault = self.faults.pop(0) if self.faults else self.always
        self.before(operation)
        if fault is not None:
            raise fault
        self._check_signature(headers, raw)
        return getattr(self, f"do_{operation}")(body)

    def do_GenerateDataKey(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["KeySpec"] == "AES_256"
        return self._encrypt("GenerateDataKey", body["KeyId"], os.urandom(32), body, plain=True)

    def do_Encrypt(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._encrypt("Encrypt", body["KeyId"], base64.b64decode(body["Plaintext"]), body)

    def do_Decrypt(self, body: dict[str, Any]) -> dict[str, Any]:
        key, plaintext = self._decrypt("Decrypt", body["KeyId"], body, "EncryptionContext")
        return {"KeyId": key.arn, "Plaintext": base64.b64encode(plaintext).decode()}

    def do_ReEncrypt(self, body: dict[str, Any]) -> dict[str, Any]:
        source, plaintext = self._decrypt("ReEncryptFrom", body["SourceKeyId"], body, "SourceEncryptionContext")
        made = self._encrypt(
            "ReEncryptTo",
            body["DestinationKeyId"],
            plaintext,
            {"EncryptionContext": body["DestinationEncryptionContext"]},
        )
        return {**made, "SourceKeyId": source.arn}

    def do_DescribeKey(self, body: dict[str, Any]) -> dict[str, Any]:
        key = self._find("DescribeKey", body["KeyId"])
        told: dict[str, Any] = {"KeyId": key.arn.rpartition("/")[2], "Arn": key.arn, "KeyState": key.state}
        told |= {"MultiRegion": "mrk-" in key.arn, "Origin": "AWS_KMS"}
        if key.deletion is not None:
            told["DeletionDate"] = key.deletion
        return {"KeyMetadata": told}

    def do_RotateKeyOnDemand(self, body: dict[str, Any]) -> dict[str, Any]:
        key = self._usable("RotateKeyOnDemand", body["KeyId"])
        if key.rotations >= 10:
            raise Refusal(400, "LimitExceededException", "no more")
        key.rotations += 1
        return {"KeyId": key.arn}

    def _find(self, action: str, name: str) -> Key:
        arn = self.aliases.get(
            name, name if name.startswith("arn:") else f"arn:aws:kms:{self.region}:111122223333:key/{name}"
        )
        if arn not in self.keys:
            raise Refusal(400, "NotFoundException", f"Key '{arn}' does not exist")
        key = self.keys[arn]
        if key.denied in (action, "all"):
            raise Refusal(
                400,
                "AccessDeniedException",
                f"User: arn:aws:iam::1:user/u is not authorized to perform: kms:{action} on resource: {arn}",
            )
        return key

    def _usable(self, action: str, name: str) -> Key:
        key = self._find(action, name)
        if key.state == "Disabled":
            raise Refusal(400, "DisabledException", f"{key.arn} is disabled.")
        if key.state != "Enabled":
            words = {"PendingDeletion": "pending deletion", "PendingImport": "pending import"}.get(
                key.state, key.state.lower()
            )
            raise Refusal(400, "KMSInvalidStateException", f"{key.arn} is {words}.")
        return key

    def _encrypt(
        self, action: str, name: str, plaintext: bytes, body: dict[str, Any], *, plain: bool = False
    ) -> dict[str, Any]:
        key = self._usable(action, name)
        nonce = os.urandom(12)
        id = key.arn.rpartition("/")[2].encode()
        sealed = AESGCM(key.material).encrypt(nonce, plaintext, _canonical(body["EncryptionContext"]))
        made = {"KeyId": key.arn, "CiphertextBlob": base64.b64encode(bytes([len(id)]) + id + nonce + sealed).decode()}
        return {**made, "Plaintext": base64.b64encode(plaintext).decode()} if plain else made

    def _decrypt(self, action: str, name: str, body: dict[str, Any], context: str) -> tuple[Key, bytes]:
        key = self._usable(action, name)
        blob = base64.b64decode(body["CiphertextBlob"])
        size = blob[0] + 1
        if blob[1:size].decode("latin-1") != key.arn.rpartition("/")[2]:
            raise Refusal(400, "IncorrectKeyException", "The key ID in the request does not identify the key")
        try:
            return key, AESGCM(key.material).decrypt(
                blob[size : size + 12], blob[size + 12 :], _canonical(body.get(context, {}))
            )
        except (InvalidTag, ValueError):
            raise Refusal(400, "InvalidCiphertextException") from None

    def _check_signature(self, headers: dict[str, str], raw: bytes) -> None:
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        part = dict(piece.strip().split("=", 1) for piece in rest.split(",")) if rest else {}
        if scheme != "AWS4-HMAC-SHA256" or set(part) != {"Credential", "SignedHeaders", "Signature"}:
            raise Refusal(400, "MissingAuthenticationTokenException")
        user, day, region, service, end = part["Credential"].split("/")
        if user != ACCESS_KEY:
            raise Refusal(400, "UnrecognizedClientException", "The security token included in the request is invalid.")
        if (region, service, end) != (self.region, "kms", "aws4_request"):
            raise Refusal(400, "InvalidSignatureException", "Credential should be scoped to a valid region.")
        signed = "".join(f"{name}:{headers[name].strip()}\n" for name in part["SignedHeaders"].split(";"))
        request = f"POST\n/\n\n{signed}\n{part['SignedHeaders']}\n{hashlib.sha256(raw).hexdigest()}"
        scope = f"{day}/{region}/{service}/{end}"
        to_sign = f"{scheme}\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{SECRET_KEY}".encode()
        for text in (day, region, service, end):
            key = hmac.digest(key, text.encode(), "sha256")
        if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), part["Signature"]):
            raise Refusal(400, "InvalidSignatureException", "The request signature does not match.")


def _canonical(context: dict[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()


@contextmanager
def serving(stub: KmsStub) -> Iterator[KmsStub]:
    """``stub`` on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, code, answer = 200, "", {}
            try:
                answer = stub.answer(headers["x-amz-target"], json.loads(raw), headers, raw)
            except Refusal as refusal:
                status, code = refusal.status, refusal.code
                answer = {"__type": refusal.code, "message": refusal.message}
            content = json.dumps(answer).encode()
            try:
                self.send_response(status)
                if code:
                    self.send_header("x-amzn-RequestId", "stub-request-1")
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the caller's time was over
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
