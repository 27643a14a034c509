"""Writes the reference pages that are tables of what is in the code: ``python docs/generate.py``.

A test compares the pages with what this writes, so that they cannot fall behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from go_services_core import errors
from go_services_core.errors import ServicesError
from go_services_core.lifecycle import EVENTS, written
from go_services_core.runtime.retry import RULES, Repeats, Rule
from go_services_core.testing.kit import CHECKS, Check, Kind, checks_of

HERE = Path(__file__).parent
NOTE = "<!-- Written by `python docs/generate.py`; change the docstrings instead. -->"

ERRORS = """\
# Errors

{note}

Every error is a `ServicesError`. Catch the class that you can do something about; a class catches everything below it.

- `code` is stable text for programs, `status` the HTTP status that a web face answers with, `category` a coarse group.
- `message` says what is wrong, `hint` what to do about it, `plugin` and `field` whose it is, `metadata` holds ids.
- `retryable` says whether the same call may succeed later without a change.
- `as_dict()` gives all of that without secrets. No error holds a token, key or request body.

A provider's own error keeps its status: `ProviderError` and what is below it have `upstream_status`, `upstream_code`,
`request_id` and an excerpt of the answer from which credentials are removed, and their `status` is the provider's.

A class is indented below the one that it belongs to.

| Class | Status | Code | Retryable | Meaning |
|---|---|---|---|---|
{rows}
"""

OUTCOMES = """\
# Outcomes of calls and what follows

<!-- Written by `python docs/generate.py` from `go_services_core/runtime/retry.py`. -->

Every attempt of a call ends in one of these outcomes. What follows depends on the outcome and on what repeating the
request does:

- **safe**: nothing. `GET`, `HEAD`, `OPTIONS`, `TRACE` (RFC 9110 §9.2.1), and a step of a transport kind that says so.
- **idempotent**: nothing more than the first did. `PUT` and `DELETE` (§9.2.2), and what `Operation.idempotent` says.
- **keyed**: nothing more, because the request carries an idempotency key that the provider honours.
- **neither**: the same again. `POST` and `PATCH` without a key.

`again` means that the request is made again, at most `RetryPolicy.attempts` times in all, after the time that the
provider asks for, else after a random one; see [choosing retries](../how-to/choose-retries.md). `end` means that the
call ends with the error of the row. `OutcomeUnknown` means that nobody knows whether the request was carried out: the
call ends with this error, whose cause is that of the row. After `again` it stands for the end of the last attempt.

<!-- table: outcomes -->

| Outcome | safe | idempotent | keyed | neither | Error | Category | Status | Breaker | Budget | Why |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

**Breaker** tells whether the outcome counts as a failure of the host, **Budget** whether a repetition is taken from the
provider's [budget of repetitions](../how-to/choose-retries.md#storms). The renewal of a refused credential takes none.

- A provider's error keeps the provider's status, also where the row has several: 504 stays 504, 418 stays 418.
- A transport kind or a plugin may take an answer for another error than its status tells. The class of that error
  chooses the row: `RateLimited` that of 429, `ProviderUnavailable` that of its `upstream_status`, others that of 4xx.
- Where a keyed call ends after an attempt that may have been carried out, with an error that does not tell (no
  connection, 401, 403, 409, 429, 5xx, an open circuit, the deadline), it ends as `OutcomeUnknown` of that attempt.
- A request that is keyed or neither and was answered with 303 was carried out. Where the request that the redirect
  leads to fails in a way that would be repeated, or with 401, nothing is repeated of one that is neither, and the call
  ends as `OutcomeUnknown`. A failure there counts against the host that it was led to.
- After every wait, for a repetition, for units or for a job's next step, the connection is looked at again: one that
  was disconnected is used no more, and a credential that was replaced is.
- A call whose deadline passes while a request is out ends as `OutcomeUnknown` if the request is keyed or neither, else
  as `RequestTimeout`. A wait that does not fit the deadline ends the call at once with the error of its last attempt.
- A call that is cancelled ends at once; nothing is repeated and nothing counts.
- A request whose body cannot be opened again (`once` of its source is true) is not repeated, nor sent to where a
  redirect leads.
- `retryable` of the error says whether the same call may be made again later: False for a 500 of a call that is
  neither.
"""

CONFORMANCE = """\
# Conformance checks

{note}

What a plugin must do, as {count} checks. They run in three ways:

- in pytest: subclass the kit of `go_services_core.testing.pytest_kit` and give `subject()`; each check is a test;
- on the command line: `go-services plugins check NAME` examines an installed plugin and its providers;
- from code: `await conformance(kind, subject)` of `go_services_core.testing.kit` gives a report.

`must` is a condition for calling a plugin conformant, `should` is advice. A check that does not apply to a subject is
reported as skipped, with the reason. Replacing a check in a subclass is refused; marking one `xfail` needs a reason.

{sections}
"""

KINDS: dict[Kind, tuple[str, str, str]] = {
    "plugin": ("Plugins", "PluginKit", "the id of an installed plugin"),
    "provider": ("Providers", "ProviderKit", "a `ProviderSpec`"),
    "store": ("Stores", "StoreKit", "an open, migrated, empty store"),
    "secrets": ("Secret backends", "SecretBackendKit", "an open backend"),
    "transport": (
        "Transports",
        "TransportKit",
        "a transport whose guard lets 127.0.0.1 through for the provider `kit`",
    ),
    "call": ("Transport kinds that shape calls", "CallTransportKit", "a `CallSubject`"),
    "signer": ("Signers", "SignerKit", "a `SignerSubject`"),
    "webhook": ("Webhook schemes", "WebhookKit", "a `WebhookSubject`"),
    "face": ("Web faces", "FaceKit", "a `FaceSubject`: a face that serves a `face_app` on its socket"),
}


def tree(parent: type[ServicesError] = ServicesError) -> Iterator[type[ServicesError]]:
    """The public error classes, each before its children, siblings in the order of the module."""
    yield parent
    for known in map(vars(errors).get, errors.__all__):
        if isinstance(known, type) and issubclass(known, ServicesError) and known.__base__ is parent:
            yield from tree(known)


def errors_page() -> str:
    """``reference/errors.md``"""
    rows = []
    for cls in tree():
        meaning = " ".join((cls.__doc__ or "").split("\n\n", 1)[0].split())
        indent = "&emsp;" * (len(cls.__mro__) - len(ServicesError.__mro__))
        retryable = "yes" if cls.retryable else "no"
        rows.append(f"| {indent}`{cls.__name__}` | {cls.status} | `{cls.code}` | {retryable} | {meaning} |")
    return ERRORS.format(note=NOTE, rows="\n".join(rows))


def outcomes_page() -> str:
    """``reference/outcomes.md``"""
    rows = []
    for rule in RULES:
        kinds = " | ".join(_follows(rule, kind) for kind in get_args(Repeats))
        error, status = rule.error, rule.status or rule.error.status
        counts, pays = ("yes" if said else "no" for said in (rule.counts, rule.again))
        rows.append(
            f"| {rule.outcome} | {kinds} | `{error.__name__}` | {error.category} | {status} | {counts} | {pays} "
            f"| {rule.why} |"
        )
    return OUTCOMES.format(rows="\n".join(rows))


def _follows(rule: Rule, kind: Repeats) -> str:
    end = "`OutcomeUnknown`" if kind in rule.unknown else "end"
    if kind not in rule.again:
        return end
    return "again" if end == "end" else f"again, {end}"


def events_page() -> str:
    """``reference/events.md``, of which the table of events is written here and the rest by hand."""
    begin, end = "<!-- table: events -->", "<!-- end: events -->"
    before, _, rest = (HERE / "reference/events.md").read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    rows = ["| Event | Version | Committed with | Payload | Refusable |", "|---|---|---|---|---|"]
    for spec in EVENTS.values():
        fields = ", ".join(
            f"`{name}` {written(kind)}{' (may be left out)' if name in spec.optional else ''}"
            for name, kind in spec.fields.items()
        )
        rows.append(
            f"| `{spec.name}` | {spec.version} | {spec.announces} | {fields} | {'yes' if spec.refusable else ''} |"
        )
    return "\n\n".join([f"{before}{begin}", "\n".join(rows), f"{end}{after}"])


def conformance_page() -> str:
    """``reference/conformance.md``"""
    sections = []
    for kind, (title, kit, subject) in KINDS.items():
        rows = [_row(check) for check in checks_of(kind)]
        head = (
            f"## {title}\n\n`{kit}`; the subject is {subject}.\n\n| Check | Level | Since | Rule |\n|---|---|---|---|"
        )
        sections.append("\n".join([head, *rows]))
    return CONFORMANCE.format(note=NOTE, count=len(CHECKS), sections="\n\n".join(sections))


def _row(check: Check) -> str:
    rule = check.rule.replace("``", "`").replace("|", "\\|")
    return f"| `{check.id}` | {check.level} | {check.since} | {rule} |"


PAGES = {
    "reference/errors.md": errors_page,
    "reference/conformance.md": conformance_page,
    "reference/outcomes.md": outcomes_page,
    "reference/events.md": events_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
