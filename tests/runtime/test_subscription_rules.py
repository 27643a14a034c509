"""What records of subscriptions say of parameters, answers and times, without a provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from go_services_core import Operation, Param
from go_services_core.errors import ResponseInvalid
from go_services_core.resources import Subscription
from go_services_core.runtime.subscription_calls import answer_of, params_of
from go_services_core.runtime.subscription_rules import delay, missed_since, renew_at
from go_services_core.secret import SecretStr
from go_services_core.subscription_specs import SENT, SubscriptionRequest, SubscriptionSpec, check_callback_url

NOW = datetime(2026, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)
END = NOW + timedelta(days=1)
REQUEST = SubscriptionRequest(
    action="create",
    resource_type="file",
    resource_id="f1",
    channel_id="c1",
    callback_url="https://app.example/hooks",
    token=SecretStr("t"),
    events=("a", "b"),
    expires_at=END,
    remote_id=None,
    remote_resource_id="r1",
)
SPEC = SubscriptionSpec(resource_type="file", create="watch", send={name: name for name in SENT}, expires="ends")
ROW = Subscription(
    id="s1",
    connection_id="1",
    provider_id="p",
    resource_type="file",
    resource_id="f1",
    channel_id="c1",
    callback_url="",
    confirmed_at=NOW,
    created_at=NOW,
    updated_at=NOW,
)


def operation(**types: Any) -> Operation:
    return Operation("watch", "POST", "/", params=tuple(Param(name, "body", type) for name, type in types.items()))


@pytest.mark.parametrize(
    ("time", "type", "sent"),
    [
        ("iso", "string", "2026-01-02T12:30:15.250000Z"),
        ("iso", "datetime", END),
        ("seconds", "integer", 1767357015),
        ("milliseconds", "integer", 1767357015250),
        ("milliseconds", "string", "1767357015250"),
    ],
)
def test_times_are_sent_as_the_record_says(time: Any, type: str, sent: object) -> None:
    assert params_of(evolve(SPEC, time=time), operation(expires=type), REQUEST) == {"expires": sent}


def test_operation_gets_of_what_is_sent_what_it_declares() -> None:
    everything = operation(**{name: "string" for name in SENT if name != "expires"})
    assert params_of(SPEC, everything, REQUEST) == {
        "callback_url": "https://app.example/hooks",
        "channel": "c1",
        "token": "t",
        "events": "a,b",
        "resource": "f1",
        "resource_type": "file",
        "remote_resource": "r1",
    }
    assert params_of(SPEC, operation(events="array", other="string"), REQUEST) == {"events": ["a", "b"]}
    assert params_of(SPEC, operation(events="array"), evolve(REQUEST, events=())) == {}


@pytest.mark.parametrize(
    ("time", "value"),
    [
        ("iso", "2026-01-02T12:30:15.2500000Z"),  # seven digits, as Microsoft Graph writes them
        ("iso", "2026-01-02T12:30:15.250"),
        ("iso", "2026-01-02T14:30:15.25+02:00"),
        ("seconds", 1767357015.25),
        ("milliseconds", "1767357015250"),
    ],
)
def test_end_is_read_as_the_record_says(time: Any, value: object) -> None:
    assert answer_of(evolve(SPEC, time=time), REQUEST, {"ends": value}).expires_at == END


def test_answer_without_an_end_has_the_one_that_was_asked_for() -> None:
    assert answer_of(SPEC, REQUEST, {}).expires_at == END
    assert answer_of(SPEC, REQUEST, None).expires_at == END
    assert answer_of(SPEC, evolve(REQUEST, expires_at=None), {}).expires_at is None


@pytest.mark.parametrize("data", [{"ends": "soon"}, {"ends": {}}, {"ends": 10**30}])
def test_end_that_cannot_be_read_is_an_error(data: Any) -> None:
    with pytest.raises(ResponseInvalid):
        answer_of(evolve(SPEC, time="seconds"), REQUEST, data)


def test_answer_without_the_id_that_is_needed_is_an_error() -> None:
    spec = evolve(SPEC, remote_id="data.id", channel="remote")
    with pytest.raises(ResponseInvalid, match=r"data\.id"):
        answer_of(spec, REQUEST, {"data": {}})
    found = answer_of(spec, REQUEST, {"data": {"id": 7}})
    assert (found.remote_id, found.channel_id) == ("7", "7")
    assert answer_of(spec, evolve(REQUEST, action="renew"), {}).remote_id is None


@pytest.mark.parametrize(
    ("life", "early", "least", "most"),
    [
        (7 * 86_400, None, 1.4 * 86_400, 1.54 * 86_400),
        (3600, None, 720, 792),
        (1800, None, 600, 660),
        (600, None, 300, 330),
        (86_400, 60.0, 60, 66),
        (600, 86_400.0, 300, 330),
    ],
)
def test_renewal_comes_a_fifth_of_the_life_before_its_end(
    life: float, early: float | None, least: float, most: float
) -> None:
    spec = evolve(SPEC, renew_early=early)
    for number in range(50):
        at = renew_at(spec, str(number), NOW, NOW + timedelta(seconds=life))
        assert at is not None
        assert least <= (NOW + timedelta(seconds=life) - at).total_seconds() <= most
    assert len({renew_at(spec, str(number), NOW, END) for number in range(50)}) > 40
    assert renew_at(spec, "x", NOW, None) is None


def test_pauses_grow_and_stay_within_what_is_left() -> None:
    endless = [delay(evolve(ROW, attempts=number), NOW, 0.0, asked=None) for number in range(1, 9)]
    assert endless == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    ending = evolve(ROW, attempts=8, expires_at=NOW + timedelta(seconds=400))
    assert delay(ending, NOW, 0.0, asked=None) == 100
    assert delay(ending, NOW, 0.0, asked=300.0) == 300
    assert delay(evolve(ending, expires_at=NOW + timedelta(seconds=4)), NOW, 0.0, asked=None) == 15
    assert delay(evolve(ROW, attempts=1), NOW, 0.99, asked=None) == pytest.approx(71.88)


def test_gap_begins_where_the_last_sign_of_life_was() -> None:
    hour = timedelta(hours=1)
    assert missed_since(evolve(ROW, confirmed_at=None), NOW) is None
    assert missed_since(ROW, NOW + hour) == NOW
    assert missed_since(evolve(ROW, last_notified_at=NOW + hour), NOW + 2 * hour) == NOW + hour
    assert missed_since(evolve(ROW, last_notified_at=NOW - hour), NOW + 2 * hour) == NOW
    assert missed_since(evolve(ROW, expires_at=NOW + hour), NOW + 2 * hour) == NOW + hour


@pytest.mark.parametrize(
    "url",
    ["", "/x", "http://app.example/x", "https://u@app.example/", "https://app.example/#x", "https://a b/", "ftp://a/"],
)
def test_callback_url_is_one_that_a_provider_can_call(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_callback_url(url)
    for good in ("https://app.example/x?y=1", "http://127.0.0.1:8400/x", "http://[::1]/x"):
        check_callback_url(good)


@pytest.mark.parametrize("wrong", [{"send": {"nothing": "x"}}, {"lifetime": 0.0}, {"overlap": -1.0}])
def test_record_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"nothing|must be above"):
        SubscriptionSpec(resource_type="file", create="watch", **wrong)
