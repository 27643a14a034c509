"""What this process logs holds no secret, whoever logs it and whoever's handler writes it. P40, P43."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import pickle
import queue
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from go_services_core.log_redaction import install
from go_services_core.secret import MASK, SecretStr

TOKEN = "tok-0123456789abcdef"
LIBRARY = logging.getLogger("some_http_library.connection")


class Everything(logging.Handler):
    """Somebody else's handler on a parent logger: keeps the records, and formats them in the end."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def text(self) -> str:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return "\n".join(formatter.format(record) + f" {_extras(record)}" for record in self.records)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    plain = vars(logging.LogRecord("", 0, "", 0, "", None, None))
    return {name: value for name, value in vars(record).items() if name not in plain and name != "message"}


@pytest.fixture
def handler() -> Iterator[Everything]:
    made, root = Everything(), logging.getLogger()
    before = root.level
    root.addHandler(made)
    root.setLevel(logging.DEBUG)
    yield made
    root.removeHandler(made)
    root.setLevel(before)


@pytest.fixture
def masking() -> Iterator[None]:
    end = install()
    yield
    end()


@pytest.fixture
def token() -> SecretStr:
    return SecretStr(TOKEN)


def test_records_of_foreign_loggers_are_masked_in_message_and_arguments(
    handler: Everything, masking: None, token: SecretStr
) -> None:
    LIBRARY.debug("GET /items?key=%s HTTP/1.1 %d", TOKEN, 200)
    LIBRARY.info("headers: %s", {"Authorization": f"Bearer {TOKEN}"})
    LIBRARY.warning(f"failed for {TOKEN}")
    LIBRARY.error("%(what)s", {"what": TOKEN})
    LIBRARY.error("a lazy object: %s", SimpleNamespace(url=f"https://u:{TOKEN}@host/"))
    assert TOKEN not in handler.text()
    assert handler.text().count(MASK) == 5
    assert "200" in handler.records[0].getMessage()


def test_exceptions_their_causes_and_stacks_are_masked(handler: Everything, masking: None, token: SecretStr) -> None:
    try:
        try:
            raise ValueError(f"url was https://host/?k={TOKEN}")
        except ValueError as first:
            raise RuntimeError("wrapped") from first
    except RuntimeError:
        LIBRARY.exception("failed", stack_info=True)
    (record,) = handler.records
    assert TOKEN not in handler.text()
    assert "url was https://host/?k=" in handler.text()
    assert "RuntimeError: wrapped" in handler.text()
    assert record.exc_info is None  # a handler that formats it itself would print the exception as it is


def test_an_exception_without_a_secret_stays_an_exception_for_handlers_that_want_one(
    handler: Everything, masking: None, token: SecretStr
) -> None:
    def connect(password: str) -> None:
        raise ValueError("no route")

    try:
        connect(password="not-a-live-secret")
    except ValueError:
        LIBRARY.exception("failed")
    (record,) = handler.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_extras_are_masked_by_value_and_by_name_for_handlers_that_write_json(
    handler: Everything, masking: None, token: SecretStr
) -> None:
    request = object()
    LIBRARY.info(
        "sent",
        extra={
            "url": f"/?k={TOKEN}",
            "password": "1",
            "headers": {"X-Api-Key": "2"},
            "tags": [TOKEN],
            "request": request,
            "size": 3,
        },
    )
    (record,) = handler.records
    written = json.dumps(_extras(record), default=str)
    assert TOKEN not in written
    assert (record.password, record.headers, record.tags) == (MASK, {"X-Api-Key": MASK}, [MASK])  # type: ignore[attr-defined]
    assert (record.request, record.size) == (request, 3)  # type: ignore[attr-defined]


def test_a_record_without_a_secret_is_left_as_it_is(handler: Everything, masking: None, token: SecretStr) -> None:
    LIBRARY.info("status %d of %s", 200, "items")
    (record,) = handler.records
    assert (record.msg, record.args) == ("status %d of %s", (200, "items"))


def test_a_handler_that_formats_later_in_another_thread_gets_masked_records(masking: None, token: SecretStr) -> None:
    waiting: queue.Queue[Any] = queue.Queue()
    written = io.StringIO()
    listener = logging.handlers.QueueListener(waiting, logging.StreamHandler(written))
    sender = logging.handlers.QueueHandler(waiting)
    LIBRARY.addHandler(sender)
    try:
        LIBRARY.error("sent %s", TOKEN)
        LIBRARY.error("sent %s", {"access_token": "1"})
    finally:
        LIBRARY.removeHandler(sender)
    listener.start()
    listener.stop()
    assert written.getvalue().count(MASK) == 2
    assert TOKEN not in written.getvalue()


def test_a_handler_that_keeps_records_in_memory_and_pickles_them_gets_masked_ones(
    handler: Everything, masking: None, token: SecretStr
) -> None:
    LIBRARY.error("sent %s", TOKEN, extra={"body": TOKEN})
    data = pickle.dumps(vars(handler.records[0]))
    assert TOKEN.encode() not in data
    assert type(handler.records[0]) is logging.LogRecord  # who reads the pickle may not have this library


def test_a_message_that_cannot_be_formatted_says_no_secret_either(
    masking: None, token: SecretStr, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lone = logging.getLogger("some_http_library.lone")  # pytest's own handlers would raise what they meet
    monkeypatch.setattr(lone, "propagate", False)
    stream = logging.StreamHandler()
    lone.addHandler(stream)
    try:
        lone.error("%d items of %s", TOKEN, TOKEN)
    finally:
        lone.removeHandler(stream)
    shown = capsys.readouterr().err
    assert "Logging error" in shown
    assert MASK in shown
    assert TOKEN not in "".join(line for line in shown.splitlines() if "error(" not in line)


def test_what_cannot_be_searched_is_not_shown(handler: Everything, masking: None) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError(TOKEN)

    LIBRARY.error("sent %s", Bad())
    assert handler.text().startswith("ERROR some_http_library.connection A log record could not be searched")


def test_masking_ends_with_the_last_one_who_wanted_it(handler: Everything, token: SecretStr) -> None:
    before = logging.Logger.callHandlers
    first, second = install(), install()
    first()
    first()  # a second time it does nothing
    LIBRARY.error(TOKEN)
    second()
    assert logging.Logger.callHandlers is before
    LIBRARY.error(TOKEN)
    assert [record.getMessage() for record in handler.records] == [MASK, TOKEN]


def test_somebody_who_wrapped_logging_meanwhile_keeps_working(handler: Everything, token: SecretStr) -> None:
    before = logging.Logger.callHandlers
    end = install()
    ours = logging.Logger.callHandlers
    seen: list[str] = []

    def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        ours(logger, record)

    logging.Logger.callHandlers = theirs  # type: ignore[method-assign,assignment]
    try:
        end()
        LIBRARY.error(TOKEN)
        assert seen == [TOKEN]
        assert [record.getMessage() for record in handler.records] == [TOKEN]
        again = install()
        LIBRARY.error(TOKEN)
        assert handler.records[-1].getMessage() == MASK
    finally:
        logging.Logger.callHandlers = ours  # type: ignore[method-assign]
        again()
    assert logging.Logger.callHandlers is before


def test_only_our_own_loggers_are_masked_where_no_more_is_wanted(handler: Everything, token: SecretStr) -> None:
    end = install(every_logger=False)
    try:
        LIBRARY.error(TOKEN)
        logging.getLogger("go_services.runtime").error(TOKEN)
    finally:
        end()
    assert [record.getMessage() for record in handler.records] == [TOKEN, MASK]


def test_tracebacks_of_our_own_errors_hold_no_live_secret_whatever_they_were_made_with(token: SecretStr) -> None:  # P41
    from go_services_core.errors import ConfigError, ProviderError, TokenEndpointError

    made = [
        ProviderError(f"said {TOKEN}", hint=f"try {TOKEN}", metadata={"a": [TOKEN]}, excerpt=TOKEN, upstream_code=TOKEN, request_id=TOKEN),
        TokenEndpointError(f"said {TOKEN}", error=TOKEN),
        ConfigError(problems=[f"x = {TOKEN}"]),
    ]  # fmt: skip
    for error in made:
        shown = [str(error), repr(error), repr(vars(error)), json.dumps(error.as_dict()), repr(error.args)]
        shown += traceback.format_exception(error)
        assert TOKEN not in "".join(shown)
        assert TOKEN.encode() not in pickle.dumps(vars(error))
        assert MASK in str(error)
