"""``go-services sandbox``: the lines that it prints declare what the sandbox's own record says."""

from __future__ import annotations

import tomllib

from go_services_core.cli.sandbox import _table
from go_services_core.testing.sandbox import Sandbox
from go_services_core.webhook_specs import HmacWebhook


async def test_printed_lines_say_what_the_record_says() -> None:
    async with Sandbox() as sandbox:
        lines, spec = _table(sandbox), sandbox.spec()
    declared = tomllib.loads(lines)["providers"]["sandbox"]
    assert [one["name"] for one in declared["capabilities"]] == [one.name for one in spec.capabilities]
    for told, operation in zip(declared["operations"], spec.operations, strict=True):
        assert told["id"] == operation.id
        for name in ("method", "path", "summary", "capability", "idempotency_header"):
            assert told.get(name) == getattr(operation, name), f"{operation.id} {name}"
        for param, of_record in zip(told.get("params", ()), operation.params, strict=True):
            assert (param["name"], param["where"], param["type"]) == (of_record.name, of_record.where, of_record.type)
            assert (param.get("required", False), param.get("help", "")) == (of_record.required, of_record.help or "")


async def test_printed_lines_say_how_webhooks_are_verified() -> None:
    async with Sandbox() as sandbox:
        lines, record = _table(sandbox), sandbox.spec().webhook
    declared = tomllib.loads(lines)["providers"]["sandbox"]
    assert declared["webhook_secrets"] == ["env:SANDBOX_WEBHOOK_SECRET"]
    assert declared["webhook"].pop("scheme") == "hmac"
    assert HmacWebhook(**{name: _frozen(value) for name, value in declared["webhook"].items()}) == record


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
