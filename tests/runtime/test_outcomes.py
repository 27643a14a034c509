"""What an answer outside 200–299 means."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import PersonalToken
from go_services_core.call_specs import Throttled
from go_services_core.errors import (
    Conflict,
    PermissionDenied,
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
)
from go_services_core.http import Headers, HttpResponse
from go_services_core.ownership import ErrorClassifier
from go_services_core.protocols import ProviderAdapter
from go_services_core.providers import ProviderInstance
from go_services_core.refs import Ref
from go_services_core.runtime.core import Core, Ownership
from go_services_core.runtime.outcomes import error_for
from go_services_core.secret import SecretStr
from go_services_core.specs import ApiSpec, ProviderSpec
from go_services_core.testing.clock import FrozenClock

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

TOKEN = SecretStr("tok/en+0123456789")


class TeapotAdapter(ProviderAdapter):
    """Types what this vendor says with 418, and its own sort of 404."""

    def classify(self, response: HttpResponse) -> Exception | None:
        return Conflict("teapot") if response.status == 418 or b"gone" in response.body else None


def classify_409(response: HttpResponse) -> Exception | None:
    return PermissionDenied("classified") if response.status in (409, 418) else None


def instance(adapter: bool, api: ApiSpec | None) -> ProviderInstance:
    ref: Ref[type[ProviderAdapter]] = Ref(f"{__name__}:TeapotAdapter")
    spec = ProviderSpec(id="acme", name="Acme", auth=PersonalToken(), api=api, adapter=ref if adapter else None)
    return ProviderInstance(id="acme", spec=spec, plugin_provider="acme", default_auth="pat")


API = ApiSpec(base_url="https://api.example", request_id_header="X-Acme-Request")


def error(
    status: int,
    body: bytes | dict[str, Any] = b"",
    headers: Headers = (),
    *,
    adapter: bool = False,
    classifier: ErrorClassifier | None = None,
    api: ApiSpec | None = API,
    kind: str = "application/json",
    secrets: tuple[SecretStr | None, ...] = (TOKEN, None),
) -> Any:
    absent = cast("Any", None)  # a core without what classifying does not use
    core = Core(
        settings=absent,
        worker=absent,
        webhooks=absent,
        endpoints=absent,
        activity=absent,
        catalog=absent,
        instances={},
        ownership={"acme": Ownership(error_classifier=classifier)},
        store=absent,
        backend=absent,
        sealer=absent,
        transport=absent,
        clock=FrozenClock(),
        owner="test",
    )
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = HttpResponse(status, (("Content-Type", kind), *headers), raw)
    return error_for(core, instance(adapter, api), response, secrets=iter(secrets))


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (301, ProviderError, False),
        (302, ProviderError, False),
        (304, ProviderError, False),
        (400, ProviderError, False),
        (401, ProviderUnauthorized, False),
        (403, ProviderForbidden, False),
        (404, ProviderNotFoundAnswer, False),
        (409, ProviderError, False),
        (410, ProviderError, False),
        (422, ProviderError, False),
        (429, RateLimited, True),
        (500, ProviderUnavailable, True),
        (502, ProviderUnavailable, True),
        (503, ProviderUnavailable, True),
        (504, ProviderUnavailable, True),
        (599, ProviderUnavailable, True),
    ],
)
def test_the_status_decides(status: int, kind: type[ProviderError], retryable: bool) -> None:
    found = error(status)
    assert type(found) is kind
    assert found.retryable is retryable
    assert found.upstream_status == status
    assert found.status == (status if status >= 400 else 502)
    assert found.plugin == "acme"
    assert "acme" in str(found)


def test_a_redirect_is_not_followed_and_its_target_not_repeated() -> None:
    found = error(302, headers=(("Location", "https://evil.example"),))
    assert "not followed" in str(found)
    assert "evil" not in str(found)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, (), None),
        (429, (("Retry-After", "7"),), 7.0),
        (429, (("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"),), 60.0),
        (403, (("Retry-After", "7"),), 7.0),
        (403, (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1767225660")), 60.0),
        (403, (("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")), 30.0),
    ],
)
def test_a_wait_makes_a_throttle_of_429_and_403(status: int, headers: Headers, wait: float | None) -> None:
    found = error(status, headers=headers)
    assert type(found) is RateLimited
    assert found.retry_after == wait
    assert found.code == "SERVICE_RATE_LIMITED"


@pytest.mark.parametrize(
    "headers",
    [(), (("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1767225660")), (("X-RateLimit-Remaining", "0"),)],
)
def test_a_403_without_a_wait_is_forbidden(headers: Headers) -> None:
    assert type(error(403, headers=headers)) is ProviderForbidden


def test_a_wait_does_not_make_a_throttle_of_other_answers() -> None:
    unavailable = error(503, headers=(("Retry-After", "7"),))
    assert (type(unavailable), unavailable.retry_after) == (ProviderUnavailable, 7.0)
    assert type(error(401, headers=(("Retry-After", "7"),))) is ProviderUnauthorized


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"error": "not_allowed"}, "application/json", "not_allowed"),
        ({"error": {"code": 190, "type": "OAuthException"}}, "application/json; charset=utf-8", "190"),
        ({"error": {"type": "OAuthException"}}, "application/json", "OAuthException"),
        ({"code": "E1"}, "application/json", "E1"),
        ({"error": True, "code": "E1"}, "application/json", "E1"),
        ({"code": 7}, "application/problem+json", "7"),
        ({"code": 7}, "application/vnd.acme+json", "7"),
        ({"error": ["x"]}, "application/json", None),
        ({"error": "bad", "code": 7, "error_description": "It is bad."}, "application/json", "bad"),
        ({"error": {"status": "PERMISSION_DENIED"}}, "application/json", "PERMISSION_DENIED"),
        ({"error": {"errors": [{"reason": "quotaExceeded"}]}}, "application/json", "quotaExceeded"),
        ({"errors": [{"message": "no"}, {"code": 88}]}, "application/json", "88"),
        ({"errors": [{"extensions": {"code": "THROTTLED"}}]}, "application/json", "THROTTLED"),
        ([{"errorCode": "INVALID_SESSION_ID"}], "application/json", "INVALID_SESSION_ID"),
        ({"errorCode": "E9"}, "application/json", "E9"),
        ({"error_code": 9}, "application/json", "9"),
        ({"__type": "com.amazon#ThrottlingException"}, "application/x-amz-json-1.1", "com.amazon#ThrottlingException"),
        ({"fault": {"code": 7}}, "application/json", "7"),
        ({"code": False}, "application/json", None),
        ({"message": "no"}, "application/json", None),
        ({"code": "E1"}, "text/html", None),
        (b"[]", "application/json", None),
        (b"not json", "application/json", None),
        (b"[" * 200_000, "application/json", None),
        (b"", "", None),
    ],
)
def test_the_providers_own_code_is_kept_where_it_has_one(body: Any, kind: str, code: str | None) -> None:
    assert error(400, body, kind=kind).upstream_code == code


def test_the_request_id_is_kept_from_the_header_that_the_record_names() -> None:
    headers = (("x-acme-request", "r-1"), ("X-Request-Id", "other"))
    assert error(500, headers=headers).request_id == "r-1"
    assert error(500, headers=headers, api=ApiSpec(base_url="https://api.example")).request_id == "other"
    assert error(500).request_id is None
    assert error(500, headers=headers, api=None).request_id is None


def test_the_excerpt_is_short_printable_and_tolerant() -> None:
    assert error(500, b"busy\r\n\x1b[31m\xff").excerpt == "busy���[31m�"
    assert len(error(500, b"x" * 100_000).excerpt) == 300
    assert error(500).excerpt == ""


@pytest.mark.parametrize(
    "body",
    [
        b"bad token tok/en+0123456789",
        b"bad token tok%2Fen%2B0123456789",
        b'{"error": {"code": "tok/en+0123456789"}}',
        b'{"error": "tok\\/en+0123456789 is bad"}',
        b"tok/en+0123456789" * 500,
        b"tok/en+0123456789" * 117 + b"x" * 5 + b"tok/en+0123456789",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_credential_that_the_provider_echoes_is_removed(status: int, body: bytes) -> None:  # P42
    found = error(status, body)
    shown = f"{found} {found!r} {found.excerpt} {found.upstream_code} {found.as_dict()} {vars(found)}"
    for piece in ("tok/en", "tok%2Fen", "0123456789", "tok\\/en"):
        assert piece not in shown


def test_a_long_credential_cut_by_a_limit_leaves_no_half() -> None:  # P42
    token = SecretStr("t0k" * 500)
    body = f"{token.reveal()} {'y' * 400} {token.reveal()}".encode()
    assert "t0kt0k" not in error(400, body, secrets=(token,)).excerpt
    assert "t0kt0k" not in error(400, f"{token.reveal()} {token.reveal()}".encode(), secrets=(token,)).excerpt


# --- who decides ---------------------------------------------------------------------------------------------------


def test_the_classifier_is_asked_before_the_adapter_and_the_adapter_before_the_status() -> None:
    assert type(error(418, adapter=True, classifier=classify_409)) is PermissionDenied
    assert type(error(418, adapter=True)) is Conflict
    assert type(error(418)) is ProviderError
    assert type(error(404, b"gone", adapter=True)) is Conflict


class BrokenAdapter(ProviderAdapter):
    """Fails on what it did not expect."""

    def classify(self, response: HttpResponse) -> Exception | None:
        raise KeyError(TOKEN.reveal())


def raising(response: HttpResponse) -> Exception | None:
    raise ValueError(TOKEN.reveal())


def misunderstanding(response: HttpResponse) -> Any:
    return "teapot"


@pytest.mark.parametrize("classifier", [raising, misunderstanding])
def test_a_classifier_or_adapter_that_fails_is_logged_and_passed_over(
    classifier: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert type(error(404, classifier=classifier)) is ProviderNotFoundAnswer
    assert type(error(418, classifier=classifier, adapter=True)) is Conflict
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 2
    assert "acme" in caplog.text
    assert TOKEN.reveal() not in caplog.text


def test_an_adapter_that_fails_leaves_it_to_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TeapotAdapter, "classify", BrokenAdapter.classify)
    assert type(error(404, adapter=True)) is ProviderNotFoundAnswer


# --- limits that the record declares -------------------------------------------------------------------------------

REASONS = Throttled(path="error.errors.reason", values=("rateLimitExceeded", "userRateLimitExceeded"))
QUOTA = Throttled(statuses=(400, 403), path="code", values="613", wait="retry.in")
DECLARED = ApiSpec(base_url="https://api.example", throttled=(REASONS, QUOTA))


@pytest.mark.parametrize(
    ("status", "body", "wait"),
    [
        (403, {"error": {"errors": [{"reason": "x"}, {"reason": "USERRATELIMITEXCEEDED"}]}}, None),
        (400, {"code": 613, "retry": {"in": 12}}, 12.0),
        (403, {"code": "613", "retry": {"in": "12.5"}}, 12.5),
        (400, {"code": 613, "retry": {"in": "soon"}}, None),
        (400, {"code": 613, "retry": {"in": -1}}, None),
    ],
)
def test_a_limit_that_is_told_by_the_body_alone_can_be_declared(status: int, body: Any, wait: float | None) -> None:
    """P85."""
    found = error(status, body, api=DECLARED)
    assert type(found) is RateLimited
    assert (found.retry_after, found.upstream_status, found.status) == (wait, status, status)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, {"error": {"errors": [{"reason": "forbidden"}]}}, "application/json"),
        (403, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}}, "text/html"),
        (400, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}}, "application/json"),
        (403, {"code": True}, "application/json"),
        (403, b"[" * 100_000, "application/json"),
    ],
)
def test_what_the_record_does_not_declare_is_no_limit(status: int, body: Any, kind: str) -> None:
    """P85."""
    assert type(error(status, body, api=DECLARED, kind=kind)) is not RateLimited


def test_the_time_that_headers_ask_for_comes_before_that_of_the_body() -> None:
    found = error(400, {"code": 613, "retry": {"in": 12}}, (("Retry-After", "7"),), api=DECLARED)
    assert found.retry_after == 7


def test_a_limit_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="values"):
        Throttled(path="code", values=())


def test_a_classifier_and_an_adapter_that_do_not_know_leave_it_to_the_status() -> None:
    assert type(error(404, adapter=True, classifier=classify_409)) is ProviderNotFoundAnswer
    assert type(error(409, adapter=True, classifier=classify_409)) is PermissionDenied


@given(
    status=st.integers(300, 599),
    body=st.binary(),
    kind=st.sampled_from(["application/json", "text/html", ""]),
    wait=st.text(ANY),
    remaining=st.sampled_from(["0", "1", ""]),
)
def test_every_answer_becomes_a_provider_error(status: int, body: bytes, kind: str, wait: str, remaining: str) -> None:
    for name in ("Retry-After", "X-RateLimit-Reset"):
        found = error(status, body, ((name, wait), ("X-RateLimit-Remaining", remaining)), kind=kind)
        assert isinstance(found, ProviderError)
        assert found.upstream_status == status
