"""The catalogue of events, and the one way to make them."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest

import go_services_core
from go_services_core import Scope
from go_services_core.clock import uuid_of
from go_services_core.errors import BadInput
from go_services_core.lifecycle import EVENTS, SEVERITIES, event, made, spec_of, with_payload, written
from go_services_core.testing.clock import FrozenClock

CLOCK = FrozenClock()
OF = {"provider_id": "p", "scope": Scope("user", "u1"), "connection_id": "c"}
CORE = Path(go_services_core.__file__).parent


def test_event_has_what_it_was_given_and_the_version_of_its_record() -> None:
    one = event(CLOCK, "connection.needs_reconsent", {"reason": "audit"}, **OF, order_key="k", source="app")
    assert (one.name, one.version, dict(one.payload)) == ("connection.needs_reconsent", 1, {"reason": "audit"})
    assert (one.provider_id, one.scope, one.connection_id, one.order_key, one.source) == (*OF.values(), "k", "app")
    assert one.occurred_at == CLOCK.now()


@pytest.mark.parametrize(
    ("name", "payload", "field"),
    [
        ("connection.vanished", {}, "name"),
        ("grant.Revoked", {}, "name"),
        ("credential.refreshed", {}, "payload"),
        ("credential.refreshed", {"version": 1, "more": 2}, "payload"),
        ("credential.refreshed", {"version": "1"}, "payload.version"),
        ("credential.refreshed", {"version": True}, "payload.version"),
        ("credential.refreshed", {"version": None}, "payload.version"),
        ("connection.disconnected", {"reason": "r", "revoked": 1}, "payload.revoked"),
    ],
)
def test_what_is_not_in_the_catalogue_is_refused(name, payload, field) -> None:
    with pytest.raises(BadInput) as refused:
        event(CLOCK, name, payload, **OF)
    assert refused.value.field == field


def test_payload_that_is_completed_is_checked_again() -> None:
    one = event(CLOCK, "connection.disconnected", {"reason": "r"}, **OF)
    assert with_payload(one, {"reason": "r", "revoked": True}).payload["revoked"] is True
    with pytest.raises(BadInput):
        with_payload(one, {"reason": "r", "revolved": True})


def test_webhooks_have_the_providers_own_names() -> None:
    payload = {"delivery": "d", "delivery_id": "i", "event": "issues.opened"}
    assert event(CLOCK, "webhook.issues.opened", payload, **OF).name == "webhook.issues.opened"
    assert spec_of("webhook.x") is EVENTS["webhook.*"]
    assert spec_of("app.own") is None


def test_every_event_is_described() -> None:
    for name, spec in EVENTS.items():
        assert name == spec.name
        assert spec.version >= 1
        assert spec.announces
        assert spec.severity in SEVERITIES
        assert set(spec.optional) <= spec.fields.keys()
        assert all(written(kind) for kind in spec.fields.values())


def test_id_of_a_unit_that_runs_again_is_the_same() -> None:
    at = CLOCK.now()
    assert uuid_of(at, "a") == uuid_of(at, "a") != uuid_of(at, "b")
    assert uuid_of(at, "a") < uuid_of(at + timedelta(milliseconds=1), "b")
    assert made("credential.readable", {}, id=uuid_of(at, "a"), at=at, **OF).id[14] == "7"


def test_nothing_in_the_runtime_makes_events_past_the_catalogue() -> None:
    """So that each is typed, and hooks before the commit are asked: by ``announce`` alone."""
    found = {}
    for path in sorted((CORE / "runtime").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Event":
                found.setdefault(path.name, call.lineno)
    assert found == {}
