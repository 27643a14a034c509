"""AWS keys, request by request: as they were typed, and those of a role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth.aws import AwsSigV4Flow
from go_services_core.auth.fields import concealed
from go_services_core.auth_specs import AssumeRole, AwsSigV4
from go_services_core.errors import (
    BadInput,
    ConnectFailed,
    InvalidGrant,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    ServicesError,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext
from go_services_core.runtime.payload import carry_over
from go_services_core.secret import SecretStr
from go_services_core.signing.sigv4 import AwsKeys, SigningScope, sign_headers
from go_services_core.testing.clock import FrozenClock

from .driving import form_of, json_answer, run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLOW = AwsSigV4Flow()
ARN = "arn:aws:iam::123456789012:role/reader"
STATIC = AwsSigV4(service="s3", region="eu-central-1")
ROLE = evolve(STATIC, role=AssumeRole(arn=ARN))
OPEN_ROLE = evolve(STATIC, role=AssumeRole())
TYPED = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "source/Secret+Key"}
XML_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def context(record: AwsSigV4, now: datetime = NOW) -> AuthContext:
    return AuthContext(
        provider_id="acme",
        auth=record,
        settings=None,
        scope=Scope("org", "o1"),
        now=now,
        random=FrozenClock().random,
    )


def xml(expiration: str = "2026-01-01T01:00:00Z", **changes: str) -> HttpResponse:
    """The answer that the AWS STS API Reference shows for AssumeRole; what is blank is left out."""
    values = {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "role/Secret",
        "SessionToken": "role-token+/=",
        "Expiration": expiration,
        **changes,
    }
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items() if value)
    body = f"""<AssumeRoleResponse xmlns="{XML_NAMESPACE}">
      <AssumeRoleResult>
        <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/reader/go-services</Arn></AssumedRoleUser>
        <Credentials>{inside}</Credentials>
        <PackedPolicySize>6</PackedPolicySize>
      </AssumeRoleResult>
      <ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>
    </AssumeRoleResponse>"""
    return answer(body.encode())


def answer(body: bytes, status: int = 200, *headers: tuple[str, str]) -> HttpResponse:
    return HttpResponse(status, (("Content-Type", "text/xml"), *headers), body)


def refusal(code: str, status: int = 403, message: str = "no", *headers: tuple[str, str]) -> HttpResponse:
    """An error as the AWS STS API Reference shows it."""
    body = (
        f'<ErrorResponse xmlns="{XML_NAMESPACE}"><Error><Type>Sender</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
    return answer(body.encode(), status, *headers)


def completed(record: AwsSigV4, *answers: HttpResponse, **fields: str) -> tuple[TokenSet, list[HttpRequest]]:
    return run(FLOW.complete(context(record), concealed({**TYPED, **fields})), *answers)


def credential(record: AwsSigV4 = ROLE, **fields: str) -> Credential:
    """A stored credential of a role's keys."""
    tokens, _ = completed(record, xml(), **fields)
    return Credential(connection_id="c1", version=1, auth_kind="aws_sigv4", tokens=tokens)


def refreshed(held: Credential, *answers: HttpResponse, record: AwsSigV4 = ROLE) -> tuple[TokenSet, list[HttpRequest]]:
    return run(FLOW.refresh(context(record, NOW + timedelta(hours=1)), held), *answers)


def revealed(tokens: TokenSet) -> dict[str, str]:
    return {
        "secret": tokens.access_token.reveal(),
        **{name: value.reveal() for name, value in tokens.extra.items()},
    }


# --- typed keys ------------------------------------------------------------------------------------------------------


def test_typed_keys_become_tokens_without_a_request() -> None:
    tokens, requests = completed(STATIC)
    assert requests == []
    assert revealed(tokens) == {"secret": "source/Secret+Key", "access_key_id": "AKIDEXAMPLE"}
    assert (tokens.token_type, tokens.expires_at, tokens.refresh_token) == ("aws_sigv4", None, None)


def test_session_token_of_temporary_keys_is_kept() -> None:
    tokens, _ = completed(STATIC, session_token="token-1")
    assert revealed(tokens)["session_token"] == "token-1"
    assert "session_token" not in completed(STATIC, session_token="")[0].extra


def test_access_token_is_taken_where_the_record_has_a_header_for_it() -> None:
    record = evolve(STATIC, access_token_header="x-amz-access-token")
    assert revealed(completed(record, access_token="Atza|1")[0])["access_token"] == "Atza|1"
    with pytest.raises(BadInput, match="access_token is not a field"):
        completed(STATIC, access_token="Atza|1")


@pytest.mark.parametrize(
    ("record", "fields", "field"),
    [
        (STATIC, {"secret_access_key": ""}, "secret_access_key"),
        (STATIC, {"access_key_id": ""}, "access_key_id"),
        (STATIC, {"role_arn": ARN}, "role_arn"),
        (STATIC, {"external_id": "x-1"}, "external_id"),
        (ROLE, {"role_arn": ARN}, "role_arn"),
        (evolve(STATIC, role=AssumeRole(arn=ARN, external_id="fixed")), {"external_id": "typed"}, "external_id"),
        (OPEN_ROLE, {}, "role_arn"),
        (OPEN_ROLE, {"role_arn": "reader"}, "role_arn"),
        (OPEN_ROLE, {"role_arn": "arn:aws:iam::123456789012:role/a b"}, "role_arn"),
        (ROLE, {"external_id": "a"}, "external_id"),
        (ROLE, {"external_id": "ä-1"}, "external_id"),
        (STATIC, {"access_key_id": "AKID/20260101"}, "access_key_id"),
        (STATIC, {"access_key_id": "AKID, Signature=0"}, "access_key_id"),
        (STATIC, {"secret_access_key": "source/Secret+Key "}, "secret_access_key"),
        (STATIC, {"session_token": "token\r\nX: 1"}, "session_token"),
    ],
)
def test_wrong_fields_are_refused_before_any_request_and_not_repeated(
    record: AwsSigV4, fields: dict[str, str], field: str
) -> None:
    with pytest.raises(BadInput) as caught:
        completed(record, **fields)
    assert caught.value.field == field
    assert "source/Secret" not in str(caught.value)


def test_account_is_the_role_and_keys_without_one_can_be_replaced() -> None:
    assert [completed(STATIC, access_key_id=key)[0].account for key in ("AKIDEXAMPLE", "AKIDANOTHER")] == [None, None]
    role, another = (completed(OPEN_ROLE, xml(), role_arn=arn)[0].account for arn in (ARN, f"{ARN}-2"))
    assert (role, another) == (ARN, f"{ARN}-2")
    assert completed(ROLE, xml(), access_key_id="AKIDANOTHER")[0].account == ARN


def test_typed_keys_are_not_renewable_and_a_role_is() -> None:
    assert (STATIC.refreshable, ROLE.refreshable, OPEN_ROLE.refreshable) == (False, True, True)
    tokens, _ = completed(STATIC, session_token="token-1")
    held = Credential(connection_id="c1", version=1, auth_kind="aws_sigv4", tokens=tokens)
    assert not FLOW.renewable(STATIC, tokens)
    assert FLOW.renewable(ROLE, credential().tokens)
    for record in (STATIC, ROLE):  # a role that the record got later has no keys to assume it with
        with pytest.raises(ReauthRequired):
            refreshed(held, record=record)


def test_there_is_no_consent_page_and_nothing_to_give_back() -> None:
    assert FLOW.interactive is False
    with pytest.raises(BadInput, match="access_key_id, secret_access_key"):
        run(FLOW.begin(context(STATIC)))
    assert run(FLOW.revoke(context(ROLE), credential())) == (False, [])


# --- assuming a role -------------------------------------------------------------------------------------------------


def test_role_is_assumed_with_the_request_of_the_api_reference() -> None:
    """AWS STS API Reference, AssumeRole: version 2011-06-15, the query protocol as a form."""
    _, (request,) = completed(ROLE, xml())
    assert (request.method, request.url) == ("POST", "https://sts.eu-central-1.amazonaws.com/")
    assert form_of(request) == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ARN,
        "RoleSessionName": "go-services",
        "DurationSeconds": "3600",
    }
    assert request.header("Accept") == "application/xml"
    assert request.max_body == 65536


def test_request_for_a_role_is_signed_with_the_typed_keys_for_sts() -> None:
    for fields in ({}, {"session_token": "token-1"}):
        _, (request,) = completed(ROLE, xml(), **fields)
        token = SecretStr(fields["session_token"]) if fields else None
        source = AwsKeys(
            access_key_id="AKIDEXAMPLE", secret_access_key=SecretStr("source/Secret+Key"), session_token=token
        )
        scope = SigningScope(service="sts", region="eu-central-1", now=NOW)
        assert sign_headers(request, source, scope) == request
        assert request.header("X-Amz-Security-Token") == (token.reveal() if token else None)
        assert "source/Secret" not in f"{request.url} {request.headers} {request.body!r}"


def test_record_chooses_endpoint_session_and_external_id() -> None:
    record = evolve(
        STATIC,
        role=AssumeRole(arn=ARN, external_id="ext-1", session_name="acme-sync", duration=900),
        sts_url="https://sts.amazonaws.com/",
        sts_region="us-east-1",
    )
    _, (request,) = completed(record, xml())
    assert request.url == "https://sts.amazonaws.com/"
    form = form_of(request)
    assert (form["RoleSessionName"], form["DurationSeconds"], form["ExternalId"]) == ("acme-sync", "900", "ext-1")
    assert "/20260101/us-east-1/sts/aws4_request," in (request.header("Authorization") or "")


def test_endpoint_of_china_is_in_its_own_domain() -> None:
    _, (request,) = completed(evolve(ROLE, region="cn-north-1"), xml())
    assert request.url == "https://sts.cn-north-1.amazonaws.com.cn/"


def test_connection_may_have_a_role_and_an_external_id_of_its_own() -> None:
    tokens, (request,) = completed(OPEN_ROLE, xml(), role_arn=ARN, external_id="tenant:7")
    assert (form_of(request)["RoleArn"], form_of(request)["ExternalId"]) == (ARN, "tenant:7")
    assert revealed(tokens)["role_arn"] == ARN
    assert revealed(tokens)["external_id"] == "tenant:7"


@pytest.mark.parametrize(
    "wrong", [*({"duration": n} for n in (899, 43201, 3600.0)), *({"session_name": s} for s in ("a", "a b", "a" * 65))]
)
def test_record_takes_no_session_that_aws_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        AssumeRole(arn=ARN, **wrong)


def test_keys_of_the_role_are_used_and_the_typed_ones_kept_apart() -> None:
    tokens, _ = completed(ROLE, xml(), session_token="source-token", external_id="ext-1")
    assert revealed(tokens) == {
        "secret": "role/Secret",
        "access_key_id": "ASIAEXAMPLE",
        "session_token": "role-token+/=",
        "source_access_key_id": "AKIDEXAMPLE",
        "source_secret_access_key": "source/Secret+Key",
        "source_session_token": "source-token",
        "external_id": "ext-1",
    }
    assert (tokens.token_type, tokens.expires_at) == ("aws_sigv4", NOW + timedelta(hours=1))


def test_renewal_assumes_the_role_again_with_the_typed_keys() -> None:
    held = credential(OPEN_ROLE, role_arn=ARN, external_id="tenant:7", session_token="source-token")
    later = xml("2026-01-01T02:00:00Z", AccessKeyId="ASIASECOND", SecretAccessKey="second", SessionToken="t-2")
    tokens, (request,) = refreshed(held, later, record=OPEN_ROLE)
    assert form_of(request)["RoleArn"] == ARN
    assert form_of(request)["ExternalId"] == "tenant:7"
    assert request.header("X-Amz-Security-Token") == "source-token"
    assert "Credential=AKIDEXAMPLE/20260101/eu-central-1/sts/" in (request.header("Authorization") or "")
    kept = carry_over(tokens, held.tokens)
    assert revealed(kept) == {
        **revealed(held.tokens),
        "secret": "second",
        "access_key_id": "ASIASECOND",
        "session_token": "t-2",
    }
    assert kept.expires_at == NOW + timedelta(hours=2)
    third, _ = run(FLOW.refresh(context(OPEN_ROLE), evolve(held, tokens=kept)), xml("2026-01-01T03:00:00Z"))
    assert revealed(third) == revealed(held.tokens)


def test_role_of_the_record_is_followed_when_it_changes() -> None:
    other = evolve(STATIC, role=AssumeRole(arn=f"{ARN}-2"))
    _, (request,) = refreshed(credential(), xml("2026-01-01T02:00:00Z"), record=other)
    assert form_of(request)["RoleArn"] == f"{ARN}-2"
    with pytest.raises(ReauthRequired, match="role_arn"):
        refreshed(credential(), record=OPEN_ROLE)


def test_failed_connection_passes_through() -> None:
    flow = FLOW.complete(context(ROLE), concealed(TYPED))
    next(flow)
    with pytest.raises(ConnectFailed):
        flow.throw(ConnectFailed("no route"))


# --- answers ---------------------------------------------------------------------------------------------------------

JSON_KEYS = {
    "AccessKeyId": "ASIAEXAMPLE",
    "SecretAccessKey": "role/Secret",
    "SessionToken": "role-token+/=",
    "Expiration": NOW.timestamp() + 3600,
}


@pytest.mark.parametrize(
    "response",
    [
        xml(),
        xml("2026-01-01T01:00:00.000Z"),
        xml("2026-01-01T02:00:00+01:00"),
        xml("2026-01-01T01:00:00"),
        answer(b'<?xml version="1.0" encoding="UTF-8"?>\n' + xml().body),
        answer(xml().body.replace(f' xmlns="{XML_NAMESPACE}"'.encode(), b"")),
        HttpResponse(200, (), xml().body.decode().encode("utf-16")),
        json_answer({"AssumeRoleResponse": {"AssumeRoleResult": {"Credentials": JSON_KEYS}}}),
        json_answer({"Credentials": {**JSON_KEYS, "Expiration": "2026-01-01T01:00:00Z"}}),
        HttpResponse(200, (("Content-Type", "text/plain"),), json_answer({"Credentials": JSON_KEYS}).body),
    ],
)
def test_answer_is_read_as_xml_and_as_json(response: HttpResponse) -> None:
    assert completed(ROLE, response)[0] == completed(ROLE, xml())[0]


def invalid(response: HttpResponse) -> TokenResponseInvalid:
    with pytest.raises(TokenResponseInvalid) as caught:
        completed(ROLE, response)
    return caught.value


@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"])
@pytest.mark.parametrize("value", ["", "  ", "a\nb c", "ä"])
def test_answer_without_a_usable_value_is_refused(name: str, value: str) -> None:
    changes = {name: value} if name != "Expiration" else {}
    error = invalid(xml(value, **changes) if name == "Expiration" else xml(**changes))
    assert error.error == name
    assert "role/Secret" not in str(error)


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z"])
def test_keys_that_are_over_already_are_refused(value: str) -> None:
    assert "clock" in str(invalid(xml(value)))


@pytest.mark.parametrize("value", [True, None, "1767229200", 1e300, float("nan"), [], {"a": 1}, -1e300])
def test_expiry_that_is_no_moment_is_refused(value: Any) -> None:
    assert invalid(json_answer({"Credentials": {**JSON_KEYS, "Expiration": value}})).error == "Expiration"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<html><body><p>a</p><p>b</p></body></html>",
        b"<a/>",
        b"[]",
        b"{}",
        b'{"Credentials": "none"}',
        xml().body[:-20],
        xml().body.replace(b"</SessionToken>", b"</SessionToken><SessionToken>other</SessionToken>"),
        b"<a>" * 100 + b"</a>" * 100,
        b"[" * 100_000,
        b"<a>\xff</a>",
    ],
)
def test_answer_that_is_none_is_refused(body: bytes) -> None:
    assert "keys" in str(invalid(answer(body)))


BOMB = b'<!DOCTYPE lolz [<!ENTITY a "ASIA"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>' + xml(
    AccessKeyId="ASIAEXAMPLE"
).body.replace(b"ASIAEXAMPLE", b"&c;")


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        b"<!DOCTYPE AssumeRoleResponse>" + xml().body,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + xml().body,
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
        + xml(AccessKeyId="ASIAEXAMPLE").body.replace(b"ASIAEXAMPLE", b"&x;"),
    ],
)
def test_document_type_is_refused_before_any_entity_is_read(body: bytes) -> None:
    assert "keys" in str(invalid(answer(body)))


@given(st.binary(max_size=200) | st.text(st.sampled_from("<>/!?[]&;ab \"'=Credentials"), max_size=60).map(str.encode))
def test_no_answer_makes_the_flow_fail_untyped(body: bytes) -> None:
    for status in (200, 400, 503):
        with pytest.raises(ServicesError):
            completed(ROLE, answer(body, status))


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(response: HttpResponse, **fields: str) -> ServicesError:
    with pytest.raises(ServicesError) as caught:
        refreshed(credential(**fields), response)
    return caught.value


@pytest.mark.parametrize(
    ("response", "fields"),
    [
        (refusal("InvalidClientTokenId"), {}),
        (refusal("NoSuchEntity", 404), {}),
        (refusal("ExpiredToken"), {"session_token": "source-token"}),
        (refusal("ExpiredTokenException", 400), {"session_token": "source-token"}),
        (json_answer({"Error": {"Code": "InvalidClientTokenId", "Message": "no", "Type": "Sender"}}, 403), {}),
        (refusal("InvalidClientTokenId", 200), {}),
    ],
)
def test_what_is_truly_over_ends_the_grant(response: HttpResponse, fields: dict[str, str]) -> None:
    """AWS STS API Reference, Common errors: the key does not exist; and IAM's answer for a role that is gone."""
    error = refused(response, **fields)
    assert isinstance(error, InvalidGrant)
    assert error.error in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied",
        "ExpiredToken",  # the typed keys have no token, so it is not they that are over
        "SignatureDoesNotMatch",
        "RequestExpired",
        "RegionDisabledException",
        "ValidationError",
        "MissingAuthenticationToken",
        "OptInRequired",
        "InvalidClientTokenIdX",
    ],
)
def test_refusal_that_somebody_may_undo_does_not_end_the_grant(code: str) -> None:
    error = refused(refusal(code))
    assert type(error) is TokenEndpointError
    assert error.error == code
    assert code in str(error)


def test_denied_access_names_what_may_be_wrong() -> None:
    """STS says AccessDenied for a role that is gone, a trust policy and an external id alike."""
    hint = refused(refusal("AccessDenied")).hint or ""
    assert "trust policy" in hint
    assert "no such role" in hint


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusal("Throttling", 400), RateLimited),
        (refusal("ThrottlingException", 400), RateLimited),
        (refusal("RequestLimitExceeded", 503), RateLimited),
        (refusal("AccessDenied", 429), RateLimited),
        (answer(b"", 429), RateLimited),
        (refusal("InternalFailure", 500), ProviderUnavailable),
        (refusal("ServiceUnavailable", 400), ProviderUnavailable),
        (refusal("InvalidClientTokenId", 503), ProviderUnavailable),
        (answer(b"<html>bad gateway</html>", 502), ProviderUnavailable),
    ],
)
def test_endpoint_that_is_busy_or_failing_is_asked_again_later(
    response: HttpResponse, kind: type[ServicesError]
) -> None:
    error = refused(response)
    assert type(error) is kind
    assert error.retryable


def test_busy_endpoint_says_how_long_to_wait() -> None:
    for response in (refusal("Throttling", 400, "slow", ("Retry-After", "7")), answer(b"", 429, ("Retry-After", "7"))):
        error = refused(response)
        assert isinstance(error, RateLimited)
        assert error.retry_after == 7


def test_refusal_without_a_code_is_no_answer() -> None:
    assert isinstance(refused(answer(b"<html>denied</html>", 403)), TokenResponseInvalid)


def test_unreadable_code_is_not_repeated() -> None:
    for code in ("Access\x9bDenied", "a b", "x" * 81):
        error = refused(refusal(code))
        assert type(error) is TokenEndpointError
        assert error.error == "an unreadable error code"
        assert code not in str(error)


def test_secrets_and_control_characters_in_a_refusal_are_not_repeated() -> None:
    message = "key source/Secret+Key token source-token id ext-000001 \x9b31m " + "x" * 1000
    fields = {"session_token": "source-token", "external_id": "ext-000001"}
    for code in ("AccessDenied", "Throttling", "InternalFailure", "InvalidClientTokenId", "ext-000001"):
        shown = f"{refused(refusal(code, 403, message), **fields)}"
        for piece in ("source/Secret", "source-token", "ext-000001", "\x9b", "x" * 400):
            assert piece not in shown


@pytest.mark.parametrize(
    ("status", "headers", "body", "over"),
    [
        (403, (), b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>", True),
        (
            400,
            (),
            b"<Error><Code> ExpiredToken </Code><Message>The provided token has expired.</Message></Error>",
            True,
        ),
        (400, (), b'{"__type": "com.amazon.coral.service#ExpiredTokenException", "message": "x"}', True),
        (403, (), b'{"Code": "ExpiredTokenException"}', True),
        (403, (("x-amzn-ErrorType", "ExpiredTokenException:http://internal.amazon.com/"),), b"{}", True),
        (403, (), b"<Error><Code>AccessDenied</Code><Message>ExpiredToken is a word here</Message></Error>", False),
        (403, (), b'{"message": "ExpiredToken"}', False),
        (403, (), b"<Error><Code>ExpiredTokenOfAnotherKind</Code></Error>", False),
        (403, (("x-amzn-ErrorType", "AccessDeniedException"),), b"", False),
        (500, (), b"<Error><Code>ExpiredToken</Code></Error>", False),
    ],
)
def test_only_keys_that_are_over_are_taken_for_it(
    status: int, headers: tuple[tuple[str, str], ...], body: bytes, over: bool
) -> None:
    assert AwsSigV4Flow().refused(HttpResponse(status, headers, body)) is over
