"""What answers tell of rate limits, as pure functions: one for each form, by the names of ``RateBudget.learn``.

A form that is malformed tells nothing; no function here raises. Forms of vendors are read as their documentation shows
them; where that could not be compared with a real answer, the function says *unverified*.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from attrs import frozen

from .errors import nearest
from .http import HttpResponse
from .refs import Ref
from .retry_after import retry_after

EPOCH: Final = 1e9
"""A reset above this is a moment, not seconds from now: no wait is 30 years long."""
_LONGEST: Final = 400
"""Characters of a header of which anything is read as numbers."""
_ITEM = re.compile(
    r'\s*(?:"([^"\\]*)"|([^;,="\s]+))\s*(?:=\s*([^;,"\s]+)\s*)?((?:;[^;,"]*(?:"[^"\\]*"[^;,"]*)?)*)(?:,|$)'
)
_PARAMETER = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)\s*=\s*(?:"([^"\\]*)"|([^;,"\s]*))', re.IGNORECASE)


class RateFact(NamedTuple):
    """One thing that an answer tells. Amounts are in units of calls and may be fractions, times in seconds.

    ``limit`` and ``window`` without ``remaining`` state how much there is from now on, not how much is left.
    """

    remaining: float | None = None
    limit: float | None = None
    reset_in: float | None = None
    """Until all of ``limit`` is there again."""
    window: float | None = None
    """How long a whole window lasts."""
    share: float | None = None
    """What is left as a part of a whole, 0 to 1, where the provider tells no amounts."""
    weight: float | None = None
    """Units that the provider has charged for this call."""
    retry_after: float | None = None
    """Nothing may be asked for so long."""
    throttled: bool = False
    """The provider refused this call for its rate without saying for how long."""
    bucket: str | None = None
    """The provider's name of the budget."""


Read = Callable[[HttpResponse, datetime], Iterable[RateFact]]


@frozen(kw_only=True)
class Learner:
    """One form: ``read`` is asked where an answer has one of ``headers``, in lower case, or has failed."""

    read: Read
    headers: frozenset[str] = frozenset()
    always: bool = False
    """It reads bodies, so that it is asked for every answer."""


def learner(name: str | Ref[Any]) -> Learner:
    """The learner of a name, or one's own by reference.

    Raises:
        LookupError: there is none of that name.
        PluginBroken: the reference leads nowhere.
    """
    if isinstance(name, Ref):
        found = name.resolve()
        return found if isinstance(found, Learner) else Learner(read=found, always=True)
    if name not in _LEARNERS:
        near = nearest(name, _LEARNERS)
        raise LookupError(f"no form of rate limits is called {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    return _LEARNERS[name]


# --- reading -------------------------------------------------------------------------------------------------------


def _number(text: str | None) -> float | None:
    if text is None or len(text) > 40 or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None


def _amount(value: Any) -> float | None:
    """A number of a JSON document."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e15 else None


def _reset(text: str | None, now: datetime) -> float | None:
    value = _number(text)
    if value is None or value < EPOCH:
        return value
    moment = value / 1000 if value > 1000 * EPOCH else value
    return max(0.0, moment - now.timestamp())


class _Item(NamedTuple):
    name: str
    value: str | None
    parameters: Mapping[str, str]


def _items(text: str | None) -> list[_Item]:
    """Members of a list, ``name=value;parameter=…``; nothing where any of it is malformed (RFC 9651 §4.2)."""
    found: list[_Item] = []
    if text is None or len(text) > _LONGEST:
        return found
    place = 0
    while place < len(text):
        member = _ITEM.match(text, place)
        if member is None:
            return []
        parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(member[4])}
        found.append(_Item(member[1] if member[1] is not None else member[2], member[3], parameters))
        place = member.end()
    return found


def _json(text: str | bytes | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _at(data: Any, *path: str) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


# --- forms ---------------------------------------------------------------------------------------------------------


def x_ratelimit(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``X-RateLimit-Limit``, ``-Remaining``, ``-Used``, ``-Reset`` (a moment or seconds) and ``-Resource``.

    A limit alone says nothing of what is left. https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    limit = _number(response.header("x-ratelimit-limit"))
    remaining = _number(response.header("x-ratelimit-remaining"))
    used = _number(response.header("x-ratelimit-used"))
    if remaining is None and used is not None and limit is not None:
        remaining = max(0.0, limit - used)
    if limit is None and used is not None and remaining is not None:
        limit = remaining + used
    if remaining is not None:
        reset_in = _reset(response.header("x-ratelimit-reset"), now)
        yield RateFact(remaining, limit, reset_in, bucket=response.header("x-ratelimit-resource"))


def ietf(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers, of draft 7 and since draft 8), and
    ``RateLimit-Limit``, ``-Remaining`` and ``-Reset`` of the earlier ones."""
    policies = {item.name: item for item in _items(response.header("ratelimit-policy"))}
    left = _items(response.header("ratelimit"))
    told = {item.name: item.value for item in left}
    if "remaining" in told:  # draft 7: limit=100, remaining=50, reset=5
        limit, reset_in = _number(told.get("limit")), _number(told.get("reset"))
        yield from _left(told["remaining"], limit, reset_in, policies.values())
        return
    for item in left:  # since draft 8: "name";r=50;t=30
        policy = policies.pop(item.name, None)
        parameters = policy.parameters if policy is not None else {}
        remaining = _number(item.parameters.get("r"))
        if remaining is not None:
            limit, window = _number(parameters.get("q")), _number(parameters.get("w")) or None
            yield RateFact(remaining, limit, _number(item.parameters.get("t")), window)
    for policy in policies.values():
        limit, window = _number(policy.parameters.get("q")), _number(policy.parameters.get("w"))
        if limit and window:
            yield RateFact(limit=limit, window=window)
    told_left = response.header("ratelimit-remaining")
    if not left and told_left is not None:
        quotas = _items(response.header("ratelimit-limit"))
        limit = _number(quotas[0].name) if quotas else None
        yield from _left(told_left, limit, _number(response.header("ratelimit-reset")), quotas)


def _left(
    remaining: str | None, limit: float | None, reset_in: float | None, quotas: Iterable[_Item]
) -> Iterator[RateFact]:
    """What is left of the window that has this ``limit``."""
    amount = _number(remaining)
    if amount is not None:
        windows = [_number(one.parameters.get("w")) for one in quotas if _number(one.name) == limit]
        yield RateFact(amount, limit, reset_in, next((window for window in windows if window), None))


def after(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``Retry-After`` (RFC 9110 §10.2.3, RFC 6585 §4) of an answer of 403, 429 or 503."""
    if response.status in (403, 429, 503):
        seconds = retry_after(response, now)
        if seconds is not None:
            yield RateFact(retry_after=seconds)


def shopify_rest(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``X-Shopify-Shop-Api-Call-Limit: 32/40``: a bucket that leaks a twentieth of its size a second (unverified:
    2 a second of 40, 4 of 80)."""
    used, _, size = (response.header("x-shopify-shop-api-call-limit") or "").partition("/")
    taken, limit = _number(used), _number(size)
    if taken is not None and limit:
        yield RateFact(max(0.0, limit - taken), limit, 20 * min(1.0, taken / limit), 20.0)


def shopify_graphql(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``extensions.cost`` of a GraphQL answer: what the query has cost, what is there, and how fast it comes back.

    https://shopify.dev/docs/api/usage/limits (unverified)
    """
    if b'"throttleStatus"' not in response.body:
        return
    cost = _at(_json(response.body), "extensions", "cost")
    status = _at(cost, "throttleStatus")
    limit, rate = _amount(_at(status, "maximumAvailable")), _amount(_at(status, "restoreRate"))
    remaining = _amount(_at(status, "currentlyAvailable"))
    if remaining is not None and limit and rate:
        reset_in = max(0.0, limit - remaining) / rate
        yield RateFact(remaining, limit, reset_in, limit / rate, weight=_amount(_at(cost, "actualQueryCost")))


def meta(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``X-App-Usage``, ``X-Business-Use-Case-Usage`` and ``X-Ad-Account-Usage``: per cents of a rolling hour.

    At 100 per cent calls are refused: until ``estimated_time_to_regain_access`` (minutes) or ``reset_time_duration``
    (seconds) have passed, else it is tried again after a minute.
    https://developers.facebook.com/docs/graph-api/overview/rate-limiting (unverified)
    """
    uses = [_json(response.header("x-app-usage")), _json(response.header("x-ad-account-usage"))]
    business = _json(response.header("x-business-use-case-usage"))
    if isinstance(business, dict):
        for of_object in business.values():
            uses += of_object if isinstance(of_object, list) else []
    for use in uses:
        if not isinstance(use, dict):
            continue
        names = ("call_count", "total_cputime", "total_time", "acc_id_util_pct")
        used = [amount for name in names if (amount := _amount(use.get(name))) is not None]
        wait = 60 * (_amount(use.get("estimated_time_to_regain_access")) or 0.0)
        if not used and not wait:
            continue
        spent = max(used, default=0.0)
        if wait == 0 and spent >= 100:
            wait = _amount(use.get("reset_time_duration")) or 60.0
        yield RateFact(share=max(0.0, 1 - spent / 100), window=3600.0, retry_after=wait or None)


def amazon_sp(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``x-amzn-RateLimit-Limit: 0.0167``: requests a second of this operation. A 429 is over after one of them.

    https://developer-docs.amazon.com/sp-api/docs/usage-plans-and-rate-limits (unverified)
    """
    rate = _number(response.header("x-amzn-ratelimit-limit"))
    if rate is not None and rate >= 1e-6:
        units = max(1.0, rate)
        wait = 1 / rate if response.status == 429 and response.header("retry-after") is None else None
        yield RateFact(limit=units, window=units / rate, retry_after=wait)


def pinterest(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``X-RateLimit-Limit: 100, 100;w=1;name="…", 1000;w=60;name="…"``: the window that counts first, then all of them;
    ``X-RateLimit-Remaining`` and ``-Reset`` (seconds) are about the first. Envoy's form (unverified)."""
    quotas = _items(response.header("x-ratelimit-limit"))
    if not quotas:
        return
    limit = _number(quotas[0].name)
    remaining = _items(response.header("x-ratelimit-remaining"))
    reset = _items(response.header("x-ratelimit-reset"))
    if remaining:
        yield from _left(remaining[0].name, limit, _reset(reset[0].name, now) if reset else None, quotas[1:])
    for quota in quotas[1:]:
        units, window = _number(quota.name), _number(quota.parameters.get("w"))
        if units and window:
            yield RateFact(limit=units, window=window)


_GOOGLE: Final = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
)


def google(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """The reasons ``rateLimitExceeded``, ``userRateLimitExceeded`` and ``quotaExceeded`` of a 403 or 429, in
    ``error.errors`` or ``error.details``: there is no word of how long.

    https://developers.google.com/workspace/drive/api/guides/handle-errors
    """
    if response.status not in (403, 429):
        return
    error = _at(_json(response.body), "error")
    reasons = [_at(error, "status")]
    for name in ("errors", "details"):
        listed = _at(error, name)
        reasons += [_at(one, "reason") for one in listed] if isinstance(listed, list) else []
    if not _GOOGLE.isdisjoint(reason for reason in reasons if isinstance(reason, str)):
        yield RateFact(throttled=True)


def salesforce(response: HttpResponse, now: datetime) -> Iterator[RateFact]:
    """``Sforce-Limit-Info: api-usage=18/5000``: calls of the organisation in the last 24 hours. When the first of them
    are forgotten is not told; it is looked at again after a quarter of an hour (unverified)."""
    for item in _items(response.header("sforce-limit-info")):
        used, _, size = (item.value or "").partition("/")
        taken, limit = _number(used), _number(size)
        if item.name == "api-usage" and taken is not None and limit:
            yield RateFact(max(0.0, limit - taken), limit, 900.0, 86400.0)


def _of(read: Read, *headers: str, always: bool = False) -> Learner:
    return Learner(read=read, headers=frozenset(headers), always=always)


_LEARNERS: Final[Mapping[str, Learner]] = {
    "ietf": _of(ietf, "ratelimit", "ratelimit-policy", "ratelimit-remaining"),
    "x-ratelimit": _of(x_ratelimit, "x-ratelimit-remaining", "x-ratelimit-used"),
    "retry-after": _of(after),
    "shopify-rest": _of(shopify_rest, "x-shopify-shop-api-call-limit"),
    "shopify-graphql": _of(shopify_graphql, always=True),
    "meta": _of(meta, "x-app-usage", "x-business-use-case-usage", "x-ad-account-usage"),
    "amazon-sp": _of(amazon_sp, "x-amzn-ratelimit-limit"),
    "pinterest": _of(pinterest, "x-ratelimit-limit"),
    "google": _of(google),
    "salesforce": _of(salesforce, "sforce-limit-info"),
}
