"""A sandbox in a process of its own, for tests with several processes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from threading import Timer
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlsplit

from ...errors import BadInput, TransportError
from ...secret import SecretStr
from .faults import FaultKind
from .server import Sandbox, SandboxOptions
from .spec import Registration

_CHILD = "from go_services_core.testing.sandbox.process import run_child; run_child()"
_PUBLISHED = ("client_secret", "webhook_secret", "api_key", "basic_password")


class SandboxProcess(Registration):
    """Start a sandbox in a new process, steer it over its control endpoints, and stop it at the end.

    The process ends with its parent, whatever becomes of that. Methods block; inside an event loop that must go on
    running, call them through ``asyncio.to_thread``.

    Args:
        ready_timeout: Seconds that the process may take to start.
        options: As for :class:`Sandbox`.
    """

    def __init__(self, *, ready_timeout: float = 30.0, **options: Unpack[SandboxOptions]) -> None:
        self._options: dict[str, Any] = {**options}
        if "redirect_uris" in options:
            self._options["redirect_uris"] = list(options["redirect_uris"])
        self._ready_timeout = ready_timeout
        self._control_token = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def __enter__(self) -> Self:
        self._process = process = subprocess.Popen(  # noqa: S603  this interpreter, this code
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = Timer(self._ready_timeout, process.kill)
        deadline.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended at once: the empty line below tells
                process.stdin.write(json.dumps({**self._options, "control_token": self._control_token}) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except BaseException:
            self._stop()
            raise
        finally:
            deadline.cancel()
        ready = json.loads(line) if line else {}
        if "url" not in ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            self._stop()
            if "error" in ready:
                raise BadInput(ready["error"], field=ready["field"])
            raise TransportError(f"The sandbox's process ended with code {process.returncode} before it was ready.")
        self._url = ready["url"]
        self.rotation = ready["rotation"]
        self.client_id, self.basic_user = ready["client_id"], ready["basic_user"]
        for name in _PUBLISHED:
            setattr(self, name, SecretStr(ready[name]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process, self._url = self._process, None, ""
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(BrokenPipeError), process:  # closes the pipes and waits
            pass

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: the API's base URL and the issuer.

        Raises:
            BadInput: the process is not running.
        """
        if not self._url:
            raise BadInput("The sandbox's process is not running.", hint="Enter it with 'with' first.")
        return self._url

    @property
    def pid(self) -> int:
        """The id of the process."""
        if self._process is None:
            raise BadInput("The sandbox's process is not running.", hint="Enter it with 'with' first.")
        return self._process.pid

    # --- steering --------------------------------------------------------------------------------------------------

    def set(self, **knobs: Any) -> None:
        """Set attributes of the sandbox, e.g. ``set(rate_limit=3, deny_next=True)``; ``account`` is a dictionary.

        Raises:
            BadInput: there is no such knob, or it does not take this value.
        """
        self._steer("set", knobs)
        self.rotation = knobs.get("rotation", self.rotation)

    def set_fault(
        self,
        endpoint: str,
        kind: FaultKind,
        *,
        times: int | None = 1,
        retry_after: int | str | None = None,
        seconds: float = 5.0,
    ) -> None:
        """Plan a fault, as ``Sandbox.faults.set`` does."""
        plan = {"endpoint": endpoint, "kind": kind, "times": times, "retry_after": retry_after, "seconds": seconds}
        self._steer("set-fault", plan)

    def clear_faults(self, endpoint: str | None = None) -> None:
        """Forget the fault of one endpoint, or all of them."""
        self._steer("clear-faults", {"endpoint": endpoint})

    def expire_access_tokens(self) -> None:
        """Every access token issued so far is expired from now on."""
        self._steer("expire-access-tokens", {})

    def requests(self) -> dict[str, int]:
        """Endpoint name → how many requests came in."""
        counted: dict[str, int] = self._steer("requests", {})
        return counted

    def issued_secrets(self) -> frozenset[str]:
        """Every code, access token and refresh token ever issued, in clear."""
        return frozenset(self._steer("issued-secrets", {}))

    def deliver(
        self,
        url: str,
        *,
        event: str = "item.created",
        data: Any = None,
        delivery_id: str | None = None,
        timestamp: float | None = None,
        secret: SecretStr | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """POST one signed webhook to ``url``, as ``Sandbox.deliver`` does."""
        delivery: dict[str, Any] = {"url": url, "event": event, "data": data, "delivery_id": delivery_id}
        delivery |= {"timestamp": timestamp, "headers": headers, "secret": secret and secret.reveal()}
        status: int = self._steer("deliver", delivery)
        return status

    def notify(self, resource: str, event: str = "update") -> list[int]:
        """POST a notification on every live subscription to ``resource``, as ``Sandbox.notify`` does."""
        statuses: list[int] = self._steer("notify", {"resource": resource, "event": event})
        return statuses

    def _steer(self, action: str, arguments: Mapping[str, Any]) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self._control_token}", "Content-Type": "application/json"}
            connection.request("POST", f"/_control/{action}", json.dumps(arguments), headers)
            with connection.getresponse() as answer:
                fields = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(f"The sandbox's process does not answer: {type(error).__name__}.") from error
        finally:
            connection.close()
        if "error" in fields:
            raise BadInput(fields["error_description"])
        return fields["result"]


def run_child() -> None:
    """The other side of :class:`SandboxProcess`: options on one line of input, the registration on one of output."""
    options = json.loads(sys.stdin.readline())
    options["control_token"] = SecretStr(options["control_token"])

    async def run() -> None:
        async with Sandbox(**options) as sandbox:
            published = {name: getattr(sandbox, name).reveal() for name in _PUBLISHED}
            _tell(
                {
                    "url": sandbox.url,
                    "client_id": sandbox.client_id,
                    "basic_user": sandbox.basic_user,
                    "rotation": sandbox.rotation,
                    **published,
                }
            )
            await asyncio.to_thread(sys.stdin.read)  # returns when the parent closes the pipe, or is gone

    try:
        asyncio.run(run())
    except BadInput as error:
        _tell({"error": str(error), "field": error.field})
        raise SystemExit(2) from None


def _tell(fields: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
