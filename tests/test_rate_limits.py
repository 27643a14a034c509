"""What answers tell of rate limits, form by form."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.call_specs import LEARNERS, RateBudget
from go_services_core.errors import PluginBroken
from go_services_core.http import HttpResponse
from go_services_core.rate_limits import _LEARNERS, Learner, RateFact, learner
from go_services_core.refs import Ref

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = NOW.timestamp()


def told(name: str, *, status: int = 200, body: Any = None, **headers: str) -> list[RateFact]:
    pairs = tuple((key.replace("_", "-"), value) for key, value in headers.items())
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return list(learner(name).read(HttpResponse(status, pairs, content), NOW))


@pytest.mark.parametrize("reset", [f"{EPOCH + 90:.0f}", "90", f"{(EPOCH + 90) * 1000:.0f}"])
def test_x_ratelimit_takes_resets_as_moments_and_as_seconds(reset: str) -> None:
    facts = told("x-ratelimit", X_RateLimit_Limit="60", x_ratelimit_remaining="7", X_RateLimit_Reset=reset)
    assert facts == [RateFact(7, 60, 90)]


def test_x_ratelimit_reads_used_and_resource() -> None:
    facts = told("x-ratelimit", X_RateLimit_Limit="5000", X_RateLimit_Used="4999", X_RateLimit_Resource="core")
    assert facts == [RateFact(1, 5000, bucket="core")]
    assert told("x-ratelimit", X_RateLimit_Used="2", X_RateLimit_Remaining="8") == [RateFact(8, 10)]


def test_limit_alone_says_nothing_of_what_is_left() -> None:
    assert told("x-ratelimit", X_RateLimit_Limit="60", X_RateLimit_Reset="10") == []


def test_ietf_fields_of_the_current_draft() -> None:
    facts = told(
        "ietf",
        RateLimit='"burst";r=3;t=8, "day";r=900;t=4000;pk=:YQ==:',
        RateLimit_Policy='"burst";q=10;w=10;qu="requests", "day";q=1000;w=86400, "month";q=9000;w=2592000',
    )
    assert facts == [
        RateFact(3, 10, 8, 10),
        RateFact(900, 1000, 4000, 86400),
        RateFact(limit=9000, window=2592000),
    ]
    assert told("ietf", RateLimit='"x";r=3') == [RateFact(3)]


def test_ietf_fields_of_earlier_drafts() -> None:
    assert told("ietf", RateLimit="limit=100, remaining=50, reset=5", RateLimit_Policy="100;w=10, 900;w=3600") == [
        RateFact(50, 100, 5, 10)
    ]
    older = {"RateLimit_Limit": "100, 100;w=60", "RateLimit_Remaining": "0", "RateLimit_Reset": "12"}
    assert told("ietf", **older) == [RateFact(0, 100, 12, 60)]


@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_counts_where_it_means_a_limit(status: int) -> None:
    assert told("retry-after", status=status, Retry_After="7") == [RateFact(retry_after=7)]
    date = "Thu, 01 Jan 2026 00:00:30 GMT"
    assert told("retry-after", status=status, Retry_After=date) == [RateFact(retry_after=30)]
    assert told("retry-after", status=status) == []
    assert told("retry-after", status=202, Retry_After="7") == []


def test_shopify_bucket_leaks_a_twentieth_a_second() -> None:
    assert told("shopify-rest", X_Shopify_Shop_Api_Call_Limit="32/40") == [RateFact(8, 40, 16, 20)]


def test_shopify_query_tells_its_cost() -> None:
    throttle = {"maximumAvailable": 1000.0, "currentlyAvailable": 904, "restoreRate": 50.0}
    cost = {"requestedQueryCost": 101, "actualQueryCost": 46, "throttleStatus": throttle}
    facts = told("shopify-graphql", body={"data": {}, "extensions": {"cost": cost}})
    assert facts == [RateFact(904, 1000, 1.92, 20, weight=46)]
    assert told("shopify-graphql", body={"data": {"throttleStatus": 1}}) == []


def test_meta_usage_is_a_share_until_it_is_spent() -> None:
    assert told("meta", X_App_Usage='{"call_count":28,"total_time":25,"total_cputime":75}') == [
        RateFact(share=0.25, window=3600)
    ]
    business = {"66782684": [{"type": "ads_management", "call_count": 95, "estimated_time_to_regain_access": 19}]}
    (fact,) = told("meta", X_Business_Use_Case_Usage=json.dumps(business))
    assert fact.retry_after == 19 * 60
    (fact,) = told("meta", X_Ad_Account_Usage='{"acc_id_util_pct":100,"reset_time_duration":300}')
    assert (fact.share, fact.retry_after) == (0, 300)
    assert told("meta", X_App_Usage='{"call_count":100}')[0].retry_after == 60


def test_amazon_tells_fractions_of_requests_a_second() -> None:
    (fact,) = told("amazon-sp", x_amzn_RateLimit_Limit="0.0167")
    assert fact.limit == 1
    assert fact.window == pytest.approx(59.88, abs=0.01)
    assert told("amazon-sp", x_amzn_RateLimit_Limit="2.5") == [RateFact(limit=2.5, window=1)]
    assert told("amazon-sp", status=429, x_amzn_RateLimit_Limit="0.5")[0].retry_after == 2


def test_pinterest_tells_several_windows() -> None:
    limit = '100, 100;w=1;name="safety_net_app_id_user_id", 1000;w=60;name="org_read_app_id_user_id"'
    facts = told("pinterest", X_RateLimit_Limit=limit, X_RateLimit_Remaining="99", X_RateLimit_Reset="1")
    assert facts == [RateFact(99, 100, 1, 1), RateFact(limit=100, window=1), RateFact(limit=1000, window=60)]
    assert told("x-ratelimit", X_RateLimit_Limit=limit, X_RateLimit_Remaining="99") == [RateFact(99)]


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"])
def test_google_reasons_are_throttles(reason: str) -> None:  # P85
    body = {"error": {"code": 403, "errors": [{"domain": "usageLimits", "reason": reason}]}}
    assert told("google", status=403, body=body) == [RateFact(throttled=True)]
    assert told("google", status=200, body=body) == []
    assert told("google", status=403, body={"error": {"errors": [{"reason": "insufficientPermissions"}]}}) == []
    details = {"error": {"details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}
    assert told("google", status=429, body=details) == [RateFact(throttled=True)]


def test_salesforce_tells_calls_of_the_day() -> None:
    info = "api-usage=18/5000, per-app-api-usage=17/250(appName=sample-connected-app)"
    assert told("salesforce", Sforce_Limit_Info=info) == [RateFact(4982, 5000, 900, 86400)]


NAMES = sorted({header for one in _LEARNERS.values() for header in one.headers} | {"retry-after", "x-ratelimit-limit"})
WORDS = st.sampled_from(
    (
        *("100", "0", "-1", "nan", "inf", "1e400", "9" * 30, "100;w=1", '"a";r=1;t=', "limit=", "32/40", "/0", "{}"),
        *('{"call_count":"x"}', '{"a":[1,{"call_count":1e999}]}', "api-usage=1/0", '"', "", ";;,,", "1_000", "٣"),
    )
)
BODIES = st.sampled_from(
    (
        *(b"", b"[", b"\xff", b'{"error":[]}', b'{"error":{"errors":[[],{"reason":{}}]}}', b"[" * 100_000),
        b'{"extensions":{"cost":{"throttleStatus":{"maximumAvailable":-1,"restoreRate":"x"}}}}',
        b'{"error":{"errors":{"reason":1},"details":[{"reason":["x"]}]},"x":"throttleStatus"}',
    )
)
LISTS = st.lists(WORDS | st.text('";=,0123abc{}[]:/\\', max_size=12), max_size=3)


@given(st.dictionaries(st.sampled_from(NAMES), LISTS.map(", ".join)), st.sampled_from([200, 403, 429, 503]), BODIES)
def test_malformed_answers_tell_nothing_that_is_no_amount(headers: dict[str, str], status: int, body: bytes) -> None:
    response = HttpResponse(status, tuple(headers.items()), body)
    for name in sorted(LEARNERS):
        for fact in learner(name).read(response, NOW):
            amounts = (fact.remaining, fact.limit, fact.reset_in, fact.window, fact.share, fact.retry_after)
            assert all(amount is None or (amount >= 0 and math.isfinite(amount)) for amount in amounts)


def read_all(response: HttpResponse, now: datetime) -> list[RateFact]:
    return [RateFact(remaining=1)]


OWN = Learner(read=read_all, headers=frozenset({"x-own"}))


def test_learners_are_named_and_open() -> None:
    assert set(_LEARNERS) == set(LEARNERS)
    assert learner(Ref(f"{__name__}:OWN")) is OWN
    made = learner(Ref(f"{__name__}:read_all"))
    assert (made.read, made.always) == (read_all, True)
    with pytest.raises(PluginBroken):
        learner(Ref("tests.nowhere:learn"))
    with pytest.raises(LookupError, match="did you mean 'ietf'"):
        learner("ietf2")
    with pytest.raises(ValueError, match="learn cannot read 'github'"):
        RateBudget(learn="github")
