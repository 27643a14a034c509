"""The tree of errors: documented, complete, and without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from go_services_core import errors
from go_services_core.errors import (
    BadInput,
    ConfigError,
    ConnectFailed,
    EgressDenied,
    NotFound,
    ProviderError,
    ProviderNotFound,
    RateLimited,
    RequestTimeout,
    ServicesError,
    TokenEndpointError,
    failure_code,
    failure_text,
    nearest,
)

CODES = {
    "SERVICE_BAD_INPUT",
    "SERVICE_OUTCOME_UNKNOWN",
    "SERVICE_RECORDING_INVALID",
    "SERVICE_NOT_RECORDED",
    "SERVICE_CIRCUIT_OPEN",
    "SERVICE_JOB_FAILED",
    "SERVICE_RATE_BUDGET_EXHAUSTED",
    "SERVICE_OPERATION_RUNNING",
    "SERVICE_HANDLER_TIMEOUT",
    "SERVICE_NOTIFICATION_FAILED",
    "SERVICE_HANDLER_CRASHED",
    "SERVICE_RETRY_LATER",
    "SERVICE_UNRECOVERABLE",
    "SERVICE_REQUEST_REFUSED",
    "SERVICE_REQUEST_RUNNING",
    "SERVICE_REQUEST_EXHAUSTED",
    "SERVICE_HOOK_REFUSED",
    "SERVICE_EVENTS_MISSED",
    "SERVICE_RESULT_NOT_KEPT",
    "SERVICE_BUNDLE_INVALID",
    "SERVICE_UNAUTHORIZED",
    "SERVICE_FORBIDDEN",
    "SERVICE_NOT_FOUND",
    "SERVICE_CONFLICT",
    "SERVICE_CONNECTION_AMBIGUOUS",
    "SERVICE_REAUTH_REQUIRED",
    "SERVICE_RECONSENT_REQUIRED",
    "SERVICE_RATE_LIMITED",
    "SERVICE_REDIRECT_REFUSED",
    "SERVICE_OPERATION_FAILED",
    "SERVICE_EXTERNAL_FAILURE",
    "SERVICE_INTERNAL_ERROR",
    "SERVICE_PROVIDER_NOT_FOUND",
    "SERVICE_CAPABILITY_UNSUPPORTED",
    "SERVICE_OAUTH_STATE_INVALID",
    "SERVICE_OAUTH_STATE_UNKNOWN",
    "SERVICE_OAUTH_STATE_USED",
    "SERVICE_OAUTH_STATE_EXPIRED",
    "SERVICE_OAUTH_BINDING_MISMATCH",
    "SERVICE_OAUTH_ISSUER_MISMATCH",
    "SERVICE_OAUTH_REDIRECT_MISMATCH",
    "SERVICE_OAUTH_PROVIDER_CHANGED",
    "SERVICE_OAUTH_DUPLICATE_PARAMETER",
    "SERVICE_OAUTH_CALLBACK_REFUSED",
    "SERVICE_RETURN_TO_REFUSED",
    "SERVICE_AUTHORIZATION_PENDING",
    "SERVICE_INVALID_GRANT",
    "SERVICE_TOKEN_INVALID",
    "SERVICE_ACCOUNT_MISMATCH",
    "SERVICE_EMBEDDED_AUTH_UNSUPPORTED",
    "SERVICE_EMBEDDED_SESSION_INVALID",
    "SERVICE_EMBEDDED_EXCHANGE_FAILED",
    "SERVICE_REPLAY_DETECTED",
    "SERVICE_REFRESH_LOCKED",
    "SERVICE_REFRESH_BACKING_OFF",
    "SERVICE_REFRESH_UNKNOWN",
    "SERVICE_PERMISSION_DENIED",
    "SERVICE_PROVIDER_OPERATION_FAILED",
    "SERVICE_SYNC_JOB_NOT_FOUND",
    "SERVICE_SYNC_CURSOR_CONFLICT",
    "SERVICE_PROFILE_NOT_FOUND",
}
CATEGORIES = {
    "bad_input": 400,
    "validation": 400,
    "authentication": 401,
    "authorization": 403,
    "not_found": 404,
    "conflict": 409,
    "rate_limit": 429,
    "operation": 500,
    "external": 502,
    "internal": 500,
}


def subclasses(base: type[ServicesError]) -> Iterator[type[ServicesError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__.startswith(f"{errors.__name__}."):
            yield from subclasses(child)


CLASSES = list(subclasses(ServicesError))
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def documented() -> dict[str, str]:
    """Class → base, as the tree in the module's docstring has it."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.partition("::")[2].partition("A class carries")[0]
    lines = re.sub(r",\n[│ ]+", ", ", tree).splitlines()
    parents: dict[str, str] = {}
    branch = ""
    for line in lines:
        found = re.match(r" {4}(│ {3})?[├└]── (.*)", line)
        if found is None:
            continue
        nested, text = found.groups()
        parent = branch if nested else "ServicesError"
        for item in text.split("·"):
            shown = re.fullmatch(r"(\w+)\s*(?:\((.*)\))?", item.strip())
            assert shown is not None, item
            name, children = shown.groups()
            assert name not in parents, name
            parents[name] = parent
            if not nested:
                branch = name
            for child in (children or "").split(","):
                if child:
                    parents[child.strip()] = name
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert documented() == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES[1:]}


def test_every_class_has_one_base() -> None:
    assert all(len(kind.__bases__) == 1 for kind in CLASSES)


def test_every_code_of_the_contract_is_on_a_class_and_no_other_is() -> None:
    assert {kind.code for kind in CLASSES} == CODES
    assert len(CODES) == 61


@each_class
def test_a_class_says_what_it_means(kind: type[ServicesError]) -> None:
    assert kind.__doc__ is not None
    assert kind.__doc__.strip().endswith(".")
    assert kind().message == kind.__doc__.split("\n\n", 1)[0].strip()
    assert str(kind("Said.", hint="Do this.")) == "Said. Do this."
    assert str(kind("Said.")) == "Said."


@each_class
def test_a_class_has_category_status_and_code(kind: type[ServicesError]) -> None:
    assert kind.category in CATEGORIES
    assert 400 <= kind.status <= 599
    assert isinstance(kind.retryable, bool)


@pytest.mark.parametrize(
    "category", ["bad_input", "authentication", "authorization", "not_found", "conflict", "rate_limit"]
)
def test_a_class_whose_category_fixes_the_status_has_it(category: str) -> None:
    """Errors that a provider answered with, or that stand between two servers, carry their own."""
    own = (ProviderError, errors.TransportError, errors.EmbeddedAuthUnsupported)
    for kind in CLASSES:
        if kind.category == category and not issubclass(kind, own):
            assert kind.status == CATEGORIES[category], kind.__name__


@each_class
def test_the_public_form_is_small_stable_and_serialisable(kind: type[ServicesError]) -> None:
    error = kind("Said.", hint="Do this.", plugin="acme", field="auth", metadata={"name": "x"})
    assert error.as_dict() == {
        "code": kind.code,
        "category": kind.category,
        "status": kind.status,
        "message": "Said.",
        "hint": "Do this.",
        "plugin": "acme",
        "field": "auth",
        "metadata": {"name": "x"},
    }
    assert json.loads(json.dumps(error.as_dict())) == error.as_dict()
    assert set(kind("Said.").as_dict()) == {"code", "category", "status", "message"}


def test_the_public_form_has_neither_excerpt_nor_cause() -> None:
    error = ProviderError("Said.", upstream_status=422, excerpt="s3cret-excerpt")
    error.__cause__ = RuntimeError("s3cret-cause")
    assert error.excerpt == "s3cret-excerpt"
    assert "s3cret" not in f"{error} {error!r} {json.dumps(error.as_dict())}"


@pytest.mark.parametrize(("upstream", "status"), [(None, 502), (301, 502), (404, 404), (422, 422), (503, 503)])
def test_a_provider_error_carries_the_providers_status(upstream: int | None, status: int) -> None:
    error = ProviderError(upstream_status=upstream)
    assert (error.upstream_status, error.status, error.as_dict()["status"]) == (upstream, status, status)
    assert ProviderError.status == 502


def test_details_of_an_error_are_attributes() -> None:
    error = RateLimited("Said.", retry_after=7.0, upstream_status=429, request_id="r", upstream_code="c", attempts=3)
    assert (error.retry_after, error.request_id, error.upstream_code, error.attempts) == (7.0, "r", "c", 3)
    assert TokenEndpointError("Said.", error="invalid_client").error == "invalid_client"


def test_only_what_never_left_is_unsent() -> None:
    assert RequestTimeout().sent
    assert errors.TransportError().sent
    assert not ConnectFailed().sent
    assert not EgressDenied().sent
    assert ConnectFailed(sent=True).sent


def test_a_configuration_error_lists_every_problem() -> None:
    error = ConfigError(problems=["one", "two"])
    assert str(error) == "The configuration has 2 problems:\n  - one\n  - two"
    assert error.problems == ("one", "two")
    assert "1 problem:" in str(ConfigError(problems=["one"]))
    assert str(ConfigError("Said.", problems=["one"])) == "Said."


@pytest.mark.parametrize(
    ("name", "known", "hint", "expected"),
    [
        ("githbu", ["github", "gitlab"], None, "There is no provider 'githbu'. Did you mean 'github'?"),
        ("githbu", ["github"], "Install it.", "There is no provider 'githbu'. Did you mean 'github'?"),
        ("zzz", ["github", "acme"], "Install it.", "There is no provider 'zzz'. Install it."),
        ("zzz", ["github", "acme"], None, "There is no provider 'zzz'. Known: acme, github."),
        ("zzz", [], None, "There is no provider 'zzz'. There is no provider at all."),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_known_one(name: str, known: Any, hint: Any, expected: str) -> None:
    error = ProviderNotFound.named("provider", name, known, hint=hint)
    assert type(error) is ProviderNotFound
    assert isinstance(error, NotFound)
    assert str(error) == expected
    assert error.metadata == {"name": name}


def test_nearest_is_none_when_nothing_is_near() -> None:
    assert nearest("title", ["titel", "body"]) == "titel"
    assert nearest("title", ["zzz"]) is None
    assert nearest("title", []) is None


def test_a_failure_is_named_by_its_code_or_its_class() -> None:
    assert failure_code(None) is None
    assert failure_code(BadInput()) == "SERVICE_BAD_INPUT"
    assert failure_code(KeyError("s3cret")) == "KeyError"


def test_text_of_a_failure_quotes_no_foreign_exception() -> None:
    assert failure_text(BadInput("The day is none.", hint="Give one.")) == "The day is none."
    assert failure_text(KeyError("s3cret")) == "KeyError"


def test_metadata_is_a_copy() -> None:
    given = {"a": 1}
    error = BadInput(metadata=given)
    given["a"] = 2
    assert error.metadata == {"a": 1}
