"""What fails is said once on standard error: by the command, and not by the log as well."""

from __future__ import annotations

from pathlib import Path

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import go_services
from .test_connect import connect


def test_call_that_the_provider_refuses_is_said_once(connected_config: Path, sandbox: SandboxProcess) -> None:
    refused = go_services("call", connect()["id"], "items.create", "--param", "name=")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "items.create failed" not in refused.stderr
