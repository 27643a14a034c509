"""From an operation's record and the caller's parameters to the final request."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import PersonalToken
from go_services_core.errors import BadInput, ResponseInvalid, ServicesError, UnknownParameter
from go_services_core.http import ACCEPT_ENCODING, USER_AGENT, HttpRequest
from go_services_core.providers import ProviderInstance
from go_services_core.runtime.answers import MISSING, at, mapped
from go_services_core.runtime.requests import build, compile_plan
from go_services_core.specs import ApiSpec, Operation, Param, ProviderSpec

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

ISSUE = Operation(
    "issues.update",
    "patch",
    "/repos/{owner}/{repo}/issues",
    params=(
        Param("owner", "path"),
        Param("repo", "path"),
        Param("page", "query", "integer"),
        Param("labels", "query", "array"),
        Param("title", "body", required=True),
        Param("open", "body", "boolean"),
        Param("assignees", "body", "array"),
        Param("meta", "body", "object"),
        Param("If-Match", "header"),
    ),
    idempotency_header="Idempotency-Key",
)
REQUIRED = {"owner": "o", "repo": "r", "title": "t"}


def instance(api: ApiSpec | None) -> ProviderInstance:
    spec = ProviderSpec(id="acme", name="Acme", auth=PersonalToken(), api=api)
    return ProviderInstance(id="acme", spec=spec, plugin_provider="acme", default_auth="pat")


def built(
    operation: Operation, params: dict[str, Any], *, api: ApiSpec | None = None, key: str | None = None
) -> HttpRequest:
    plan = compile_plan(instance(api or ApiSpec(base_url="https://api.example/v1/")), operation)
    return build(plan, params, idempotency_key=key, timeout=3.0)


def refused(operation: Operation, params: dict[str, Any], *, key: str | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        built(operation, params, key=key)
    return caught.value


def query(*params: Param) -> Operation:
    return Operation("items.list", "GET", "/items", params=params)


# --- what is built -------------------------------------------------------------------------------------------------


def test_every_parameter_stands_in_its_place() -> None:
    params = {
        **REQUIRED,
        "page": 2,
        "labels": ["a b", "c&d", 3, True],
        "open": False,
        "assignees": ["x"],
        "meta": {"n": None},
        "If-Match": '"etag"',
    }
    request = built(ISSUE, params, key="key-1")
    assert request.method == "PATCH"
    assert request.url == (
        "https://api.example/v1/repos/o/r/issues?page=2&labels=a%20b&labels=c%26d&labels=3&labels=true"
    )
    assert request.headers == (
        ("Accept", "application/json"),
        ACCEPT_ENCODING,
        USER_AGENT,
        ("Content-Type", "application/json"),
        ("If-Match", '"etag"'),
        ("Idempotency-Key", "key-1"),
    )
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {"title": "t", "open": False, "assignees": ["x"], "meta": {"n": None}}
    assert request.timeout == 3.0


def test_a_parameter_that_is_none_is_left_out() -> None:
    request = built(ISSUE, {**REQUIRED, "page": None, "open": None, "If-Match": None})
    assert "page" not in request.url
    assert request.body == b'{"title":"t"}'
    assert request.header("If-Match") is None


def test_an_operation_without_body_parameters_sends_no_body() -> None:
    request = built(query(Param("q")), {})
    assert request.body is None
    assert request.header("Content-Type") is None
    assert request.url == "https://api.example/v1/items"


@pytest.mark.parametrize(("answer", "accept"), [("json", "application/json"), ("text", "*/*"), ("bytes", "*/*")])
def test_it_asks_for_what_it_can_read(answer: Any, accept: str) -> None:
    assert built(Operation("x", "GET", "/x", answer=answer), {}).headers == (
        ("Accept", accept),
        ACCEPT_ENCODING,
        USER_AGENT,
    )


def test_headers_of_the_api_are_sent_and_no_default_stands_beside_them() -> None:
    api = ApiSpec(base_url="https://api.example", headers={"accept": "application/vnd.acme+json", "X-Version": "7"})
    request = built(Operation("x", "POST", "/x", params=(Param("a", "body"),)), {}, api=api)
    assert request.headers == (
        ("accept", "application/vnd.acme+json"),
        ("X-Version", "7"),
        ACCEPT_ENCODING,
        USER_AGENT,
        ("Content-Type", "application/json"),
    )


def test_the_apis_own_user_agent_is_sent_alone() -> None:
    api = ApiSpec(base_url="https://api.example", headers={"user-agent": "acme-sdk/1"})
    request = built(Operation("x", "GET", "/x"), {}, api=api)
    assert [value for name, value in request.headers if name.lower() == "user-agent"] == ["acme-sdk/1"]


def test_a_header_parameter_replaces_the_default() -> None:
    operation = Operation("x", "GET", "/x", params=(Param("accept", "header"),))
    assert built(operation, {"accept": "text/csv"}).headers == (ACCEPT_ENCODING, USER_AGENT, ("accept", "text/csv"))


def test_query_of_the_template_is_kept() -> None:
    operation = Operation("x", "GET", "/x?fixed=1", params=(Param("q"),))
    assert built(operation, {"q": "a"}).url == "https://api.example/v1/x?fixed=1&q=a"
    assert built(operation, {}).url == "https://api.example/v1/x?fixed=1"


def test_one_plan_serves_many_calls() -> None:
    plan = compile_plan(instance(ApiSpec(base_url="https://api.example")), ISSUE)
    first = build(plan, {**REQUIRED, "If-Match": "1"}, idempotency_key="k", timeout=None)
    second = build(plan, REQUIRED, idempotency_key=None, timeout=None)
    assert first.header("If-Match") == "1"
    assert second.header("If-Match") is None
    assert second.header("Idempotency-Key") is None


# --- encoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a/b", "a%2Fb"),
        ("../..", "..%2F.."),
        ("...", "..."),
        ("%2e%2e", "%252e%252e"),
        ("a?b#c", "a%3Fb%23c"),
        ("ä", "%C3%A4"),
        ("@evil.example:1", "%40evil.example%3A1"),
        ("\\", "%5C"),
        (";v=1", "%3Bv%3D1"),
        ("a\r\nb", "a%0D%0Ab"),
    ],
)
def test_a_path_parameter_stays_one_segment(value: str, text: str) -> None:
    assert built(ISSUE, {**REQUIRED, "repo": value}).url == f"https://api.example/v1/repos/o/{text}/issues"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_path_parameter_that_would_climb_is_refused(value: str) -> None:  # RFC 3986 §5.2.4
    assert refused(ISSUE, {**REQUIRED, "repo": value}).field == "repo"


@given(owner=st.text(min_size=1), repo=st.text(min_size=1))
def test_path_parameters_are_read_back_and_change_nothing_else(owner: str, repo: str) -> None:
    try:
        url = built(ISSUE, {**REQUIRED, "owner": owner, "repo": repo}).url
    except BadInput:
        assert {owner, repo} & {".", ".."}
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("https", "api.example", "", "")
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "v1", "repos", owner, repo, "issues"]


@given(
    name=st.text(min_size=1),
    values=st.lists(st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
)
def test_query_parameters_are_read_back(name: str, values: list[Any]) -> None:
    url = built(query(Param(name, "query", "array")), {name: values}).url
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    assert parse_qsl(urlsplit(url).query, keep_blank_values=True) == [(name, text) for text in texts]
    assert url.isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(meta=st.dictionaries(st.text(), JSON))
def test_body_parameters_are_read_back(meta: dict[str, Any]) -> None:
    body = built(ISSUE, {**REQUIRED, "meta": meta}).body
    assert isinstance(body, bytes)
    assert json.loads(body) == {"title": "t", "meta": meta}


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["owner", "repo", "title"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_parameter_is_named(name: str, empty: bool) -> None:
    params: dict[str, Any] = {key: value for key, value in REQUIRED.items() if key != name}
    error = refused(ISSUE, {**params, name: None} if empty else params)
    assert error.field == name
    assert "issues.update" in str(error)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("titel", "Did you mean 'title'?"),
        ("if-match", "Did you mean 'If-Match'?"),
        ("zzz", "It has: owner, repo, page"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_nearest(name: str, hint: str) -> None:
    error = refused(ISSUE, {**REQUIRED, name: "s3cret"})
    assert isinstance(error, UnknownParameter)
    assert error.field == name
    assert hint in str(error)
    assert "s3cret" not in str(error)


def test_an_unknown_parameter_of_an_operation_without_any_is_refused() -> None:
    assert "none" in str(refused(query(), {"q": None}))


TYPES: dict[Any, tuple[list[Any], list[Any]]] = {
    "string": (["", "a", "1"], [1, 1.0, True, b"a", ["a"], {}]),
    "integer": ([0, -1, 2**70], ["1", 1.0, True, None.__class__]),
    "number": ([0, 1, 1.5, -2.0], ["1", True, False, [1]]),
    "boolean": ([True, False], [0, 1, "true", "false"]),
    "array": ([[], ["a"], ("a", "b")], ["a", {"a": 1}, {"a"}, 1]),
    "object": ([{}, {"a": 1}], [[], "{}", [("a", 1)]]),
}


@pytest.mark.parametrize(("type", "value"), [(type, value) for type, (good, _) in TYPES.items() for value in good])
def test_a_value_of_the_declared_type_is_taken(type: Any, value: Any) -> None:
    request = built(Operation("x", "POST", "/x", params=(Param("a", "body", type),)), {"a": value})
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {"a": list(value) if isinstance(value, tuple) else value}


@pytest.mark.parametrize(("type", "value"), [(type, value) for type, (_, bad) in TYPES.items() for value in bad])
@pytest.mark.parametrize("where", ["body", "query", "header", "path"])
def test_a_value_of_another_type_is_refused_by_name(type: Any, value: Any, where: Any) -> None:
    path = "/x/{a}" if where == "path" else "/x"
    error = refused(Operation("x", "POST", path, params=(Param("a", where, type),)), {"a": value})
    assert error.field == "a"
    assert type in str(error)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (Param("a", "query", "object"), {"b": 1}),
        (Param("a", "query", "array"), ["b", None]),
        (Param("a", "query", "array"), [["b"]]),
        (Param("a", "query", "array"), [{"b": 1}]),
        (Param("a", "query", "number"), float("nan")),
        (Param("a", "query", "number"), float("-inf")),
        (Param("a", "query", "array"), [10**5000]),
        (Param("a", "query"), "\ud800"),
        (Param("a", "header", "array"), ["b"]),
        (Param("a", "header", "number"), float("inf")),
        (Param("a", "header"), "b\r\nX: 1"),
        (Param("a", "header"), "\ud800"),
        (Param("a b", "header"), "c"),
        (Param("a", "body", "number"), float("nan")),
        (Param("a", "body", "array"), [float("inf")]),
        (Param("a", "body", "array"), [{1, 2}]),
        (Param("a", "body", "object"), {"b": b"bytes"}),
        (Param("a", "body", "object"), {("b",): 1}),
    ],
)
def test_what_cannot_be_written_down_is_refused(param: Param, value: Any) -> None:
    refused(query(param), {param.name: value})


def test_an_object_that_holds_itself_is_refused() -> None:
    meta: dict[str, Any] = {}
    meta["self"] = meta
    assert refused(ISSUE, {**REQUIRED, "meta": meta}).field == "body"


def test_an_idempotency_key_is_not_sent_where_the_provider_honours_none() -> None:
    assert built(query(), {}, key="key-1") == built(query(), {})


def test_a_keyed_operation_without_a_header_for_the_key_is_refused() -> None:
    error = refused(Operation("x", "POST", "/x", keyed=True), {})
    assert error.field == "idempotency_header"
    assert "x is keyed" in str(error)


def test_an_idempotency_key_that_breaks_its_header_is_refused() -> None:
    refused(ISSUE, REQUIRED, key="a\r\nX: 1")


@pytest.mark.parametrize(
    "operation",
    [
        Operation("x", "GET", "/x/{id}"),
        Operation("x", "GET", "/x/{id}", params=(Param("id", "query"),)),
        Operation("x", "GET", "/x/{id}", params=(Param("ID", "path"),)),
    ],
)
def test_a_template_with_a_name_that_is_no_path_parameter_is_refused(operation: Operation) -> None:
    with pytest.raises(BadInput, match=r"\{id\}") as caught:
        compile_plan(instance(ApiSpec(base_url="https://api.example")), operation)
    assert caught.value.plugin == "acme"


def test_an_operation_of_a_provider_without_api_is_refused() -> None:
    with pytest.raises(BadInput, match="acme has no API"):
        compile_plan(instance(None), ISSUE)


@given(
    params=st.dictionaries(
        st.sampled_from([*(param.name for param in ISSUE.params), "other"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY), st.lists),
    )
)
def test_no_parameters_fail_untyped(params: dict[str, Any]) -> None:
    try:
        request = built(ISSUE, {**REQUIRED, **params})
    except ServicesError:
        return
    assert request.url.isascii()
    assert urlsplit(request.url).netloc == "api.example"


# --- what parameters may declare -----------------------------------------------------------------------------------


def test_default_is_sent_where_the_caller_gives_none_and_none_leaves_it_out() -> None:
    operation = query(
        Param("size", type="integer", default=30, maximum=100), Param("on", type="boolean", default=False)
    )
    assert built(operation, {}).url.endswith("/items?size=30&on=false")
    assert built(operation, {"size": 5, "on": None}).url.endswith("/items?size=5")
    required = query(Param("kind", required=True, default="all"))
    assert built(required, {}).url.endswith("?kind=all")


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [
        (Param("state", choices=("open", "closed")), "open", "opened"),
        (Param("state", type="array", choices=("open", "closed")), ["open", "closed"], ["open", "x"]),
        (Param("state", type="integer", choices=(1, 2)), 2, 3),
        (Param("size", type="integer", minimum=1, maximum=100), 100, 101),
        (Param("size", type="integer", minimum=1), 1, 0),
        (Param("size", type="number", maximum=0.5), 0.5, 0.51),
        (Param("size", type="number", maximum=0.5), 0, float("nan")),
        (Param("on", type="date"), "2026-01-31", "2026-02-31"),
        (Param("on", type="date"), date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        (Param("at", type="datetime"), "2026-01-31T12:00:00Z", "2026-01-31T12:00:00"),
        (Param("at", type="datetime"), "2026-01-31T12:00:00+01:00", "yesterday"),
        (Param("at", type="datetime"), datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 1, 31)),
        (Param("at", type="datetime"), datetime(2026, 1, 31, tzinfo=UTC), date(2026, 1, 31)),
    ],
)  # fmt: skip
def test_value_outside_of_what_is_declared_is_refused_by_name_and_not_repeated(
    param: Param, good: Any, bad: Any
) -> None:
    built(query(param), {param.name: good})
    error = refused(query(param), {param.name: bad})
    assert error.field == param.name
    assert "items.list" in str(error)


def test_wrong_choice_is_answered_with_all_of_them_and_the_nearest() -> None:
    error = refused(query(Param("state", choices=("open", "closed"))), {"state": "close"})
    assert "one of open, closed" in str(error)
    assert "Did you mean 'closed'?" in str(error)
    assert "s3cret" not in str(refused(query(Param("state", choices=("open",))), {"state": "s3cret"}))


def test_dates_are_written_as_iso_8601() -> None:
    operation = query(Param("on", type="date"), Param("at", type="datetime"))
    east = timezone(timedelta(hours=2))
    url = built(operation, {"on": date(2026, 1, 2), "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}).url
    assert url.endswith("?on=2026-01-02&at=2026-01-02T03%3A04%3A05Z")
    assert built(operation, {"at": datetime(2026, 1, 2, tzinfo=east)}).url.endswith(
        "at=2026-01-02T00%3A00%3A00%2B02%3A00"
    )
    body = Operation("x", "POST", "/x", params=Param("at", "body", "datetime"))
    assert built(body, {"at": datetime(2026, 1, 2, tzinfo=UTC)}).body == b'{"at":"2026-01-02T00:00:00Z"}'


@pytest.mark.parametrize(
    ("style", "sent"),
    [
        ("repeat", "?tag=a%2Cb&tag=c&tag=1"),
        ("comma", "?tag=a%2Cb,c,1"),
        ("brackets", "?tag%5B%5D=a%2Cb&tag%5B%5D=c&tag%5B%5D=1"),
    ],
)
def test_array_is_written_in_the_style_of_the_api(style: Any, sent: str) -> None:
    operation = query(Param("tag", type="array", style=style))
    assert built(operation, {"tag": ["a,b", "c", 1]}).url.endswith(sent)
    assert built(operation, {"tag": []}).url.endswith("/items")


def test_object_in_a_query_needs_brackets() -> None:
    operation = query(Param("filter", type="object", style="brackets"))
    assert built(operation, {"filter": {"a b": 1, "on": True}}).url.endswith("?filter%5Ba%20b%5D=1&filter%5Bon%5D=true")
    assert refused(query(Param("filter", type="object")), {"filter": {"a": 1}}).field == "filter"
    assert refused(operation, {"filter": {"a": {"b": 1}}}).field == "filter"


def test_wire_name_is_what_is_sent() -> None:
    operation = Operation(
        "x", "POST", "/x",
        params=(Param("from_", wire="from"), Param("etag", "header", wire="If-Match"), Param("kind", "body", wire="type"),
                Param("author", "body", wire="commit.author.name"), Param("email", "body", wire="commit.author.email"),
                Param("commit.flat", "body", "integer")),
    )  # fmt: skip
    params = {"from_": "a", "etag": '"1"', "kind": "k", "author": "n", "email": "e", "commit.flat": 1}
    request = built(operation, params)
    assert request.url.endswith("/x?from=a")
    assert request.header("If-Match") == '"1"'
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {
        "type": "k", "commit": {"author": {"name": "n", "email": "e"}}, "commit.flat": 1,
    }  # fmt: skip


def test_nested_parameters_do_not_change_what_the_caller_gave() -> None:
    operation = Operation("x", "POST", "/x", params=(Param("a", "body", "object"), Param("b", "body", wire="a.b")))
    given = {"c": 1}
    assert built(operation, {"a": given, "b": "2"}).body == b'{"a":{"c":1,"b":"2"}}'
    assert given == {"c": 1}
    clash = Operation("x", "POST", "/x", params=(Param("a", "body"), Param("b", "body", wire="a.b")))
    assert "Two parameters" in str(refused(clash, {"a": "text", "b": "2"}))


def test_null_is_sent_only_where_it_means_something() -> None:
    operation = Operation(
        "x", "PATCH", "/x", params=(Param("a", "body", nullable=True, required=True), Param("b", "body"))
    )
    assert built(operation, {"a": None, "b": None}).body == b'{"a":null}'
    assert refused(operation, {"b": "x"}).field == "a"


@pytest.mark.parametrize(
    ("kind", "value", "content_type", "body"),
    [
        ("object", {"a": 1}, "application/json", b'{"a":1}'),
        ("array", [1, "b"], "application/json", b'[1,"b"]'),
        ("string", "té", "text/plain; charset=utf-8", "té".encode()),
        ("bytes", b"\0\xff", "application/octet-stream", b"\0\xff"),
    ],
)
def test_raw_parameter_is_the_body(kind: Any, value: Any, content_type: str, body: bytes) -> None:
    operation = Operation("x", "PUT", "/x", params=Param("content", "raw", kind))
    request = built(operation, {"content": value})
    assert (request.body, request.header("Content-Type")) == (body, content_type)
    empty = built(operation, {})
    assert (empty.body, empty.header("Content-Type")) == (None, None)
    own = evolve(operation, params=(*operation.params, Param("type", "header", wire="Content-Type")))
    assert built(own, {"content": value, "type": "image/png"}).header("Content-Type") == "image/png"
    assert refused(operation, {"content": 1.5}).field == "content"


def test_path_of_several_segments_keeps_its_slashes_and_cannot_climb() -> None:
    operation = Operation("x", "GET", "/contents/{path}/raw", params=Param("path", "path", style="segments"))
    assert built(operation, {"path": "docs/a b?.md"}).url.endswith("/v1/contents/docs/a%20b%3F.md/raw")
    for wrong in ("../x", "a/../b", "a//b", "/a", "a/", "."):
        assert refused(operation, {"path": wrong}).field == "path"


def test_wrong_name_is_told_before_what_it_leaves_missing() -> None:
    with pytest.raises(UnknownParameter, match="Did you mean 'title'"):
        built(ISSUE, {"owner": "o", "repo": "r", "titel": "t"})


def test_what_an_answer_holds_at_a_path() -> None:
    data = {"data": {"items": [{"id": 1}, {"id": 2, "none": None}], "0": "key"}}
    assert at(data, "data.items.-1.id") == 2
    assert at(data, "data.items.0") == {"id": 1}
    assert at(data, "data.0") == "key"
    assert at(data, "data.items.1.none") is None
    for wrong in ("data.items.2", "data.items.-3", "data.items.x", "data.nothing", "data.items.0.id.x"):
        assert at(data, wrong) is MISSING
    operation = Operation("x", "GET", "/x", result="data.items.0.id")
    assert mapped(operation, data) == 1
    with pytest.raises(ResponseInvalid, match="nothing at"):
        mapped(operation, {"data": None})
