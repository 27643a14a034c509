"""Metrics: which observation changes what, and tags that stay few."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from go_services_core import Scope
from go_services_core.metrics import TAGS, updates
from go_services_core.model import Observation

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_ended_call_counts_and_has_its_duration_under_names_of_its_kind() -> None:
    total, duration = updates(
        Observation(
            name="operation",
            at=AT,
            duration_ms=12.5,
            provider_id="github",
            detail={"operation": "repos.list", "declared": True},
        )
    )
    assert (total.name, total.kind, total.value) == ("services.provider_operation.total", "counter", 1)
    assert (duration.name, duration.kind, duration.value) == (
        "services.provider_operation.duration_ms",
        "histogram",
        12.5,
    )
    tags = {
        "operation": "repos.list",
        "status": "success",
        "provider_id": "github",
        "error_code": "",
        "error_category": "",
    }
    assert total.tags == duration.tags == tags


def test_failure_is_told_apart_by_code_and_category() -> None:
    total, _ = updates(
        Observation(
            name="refresh",
            at=AT,
            ok=False,
            duration_ms=1,
            error_code="SERVICE_REAUTH_REQUIRED",
            error_category="authentication",
        )
    )
    assert total.name == "services.refresh.total"
    assert (total.tags["status"], total.tags["error_code"], total.tags["error_category"]) == (
        "failure",
        "SERVICE_REAUTH_REQUIRED",
        "authentication",
    )


def test_no_id_and_no_path_of_an_endpoint_that_is_not_declared_becomes_a_tag() -> None:
    observation = Observation(
        name="operation",
        at=AT,
        duration_ms=1,
        provider_id="github",
        connection_id="c-1",
        scope=Scope("user", "u-1"),
        span=7,
        trace_id="t-1",
        detail={"operation": "GET /users/17", "declared": False, "request_id": "r-1", "idempotency": "k-1"},
    )
    for update in updates(observation):
        assert tuple(update.tags) == TAGS
        assert set(update.tags.values()) == {"(ad hoc)", "success", "github", ""}


@pytest.mark.parametrize(
    ("name", "detail", "tag"),
    [
        ("outbox", {"handler": "acme.note", "event": "webhook.x", "item": "i-1"}, "acme.note"),
        ("job", {"kind": "secrets.rewrap", "item": "i-1"}, "secrets.rewrap"),
        ("webhook.handle", {"event": "webhook.anything", "item": "i-1"}, ""),
        ("connect", {"operation": "x", "kind": "y"}, ""),
    ],
)
def test_handlers_and_kinds_of_jobs_are_few_and_events_of_providers_are_not(
    name: str, detail: dict[str, str], tag: str
) -> None:
    total, _ = updates(Observation(name=name, at=AT, duration_ms=1, detail=detail))
    assert total.tags["operation"] == tag


def test_beginnings_and_attempts_change_nothing_retries_and_happenings_count_once() -> None:
    assert updates(Observation(name="operation", at=AT, phase="start")) == ()
    assert updates(Observation(name="attempt", at=AT, duration_ms=1)) == ()
    (retry,) = updates(Observation(name="operation", at=AT, phase="retry", ok=False))
    assert retry.name == "services.provider_operation.retries"
    (happened,) = updates(Observation(name="webhook.duplicate", at=AT))
    assert happened.name == "services.webhook.duplicate.total"
