"""What networks and broken servers do to answers: each fault ends typed, within its time, with the right decision.

The requests go through a proxy that knows HTTP and spoils the sandbox's answers. No test measures a time: a request has
``TIME`` seconds by the settings, and a call that does not end by itself runs into the limit of the test.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from attrs import evolve, frozen

from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BodyTooLarge,
    ConnectFailed,
    EgressDenied,
    OutcomeUnknown,
    RedirectRefused,
    RequestTimeout,
    ResponseInvalid,
    ServicesError,
    TransportError,
)
from go_services_core.testing.fault_proxy import FAULTS, fault_proxy

TIME = 0.4
ATTEMPTS = 3
ONCE = RetryPolicy(attempts=1)
QUICKLY = RetryPolicy(attempts=ATTEMPTS, first_delay=0.001, longest_delay=0.002)


@frozen
class Row:
    """One fault: the error that it is, None where the call succeeds; and the requests that a call makes in all."""

    error: type[ServicesError] | None
    gets: int
    posts: int = 1
    post_error: type[ServicesError] | None = None
    """That of a POST, where it is another one."""
    unknown: bool = False
    """Whether a POST without a key ends as ``OutcomeUnknown``: it may have been carried out."""

    def of(self, method):
        return self.post_error if method == "POST" and self.post_error is not None else self.error


FINE = Row(None, 1)
LOST = Row(TransportError, ATTEMPTS, unknown=True)
LATE = Row(RequestTimeout, ATTEMPTS, unknown=True)
TABLE = {
    "delay": FINE,
    "no answer": LATE,
    "cut before the headers": LOST,
    "cut inside the headers": LOST,
    "cut after the headers": LOST,
    "cut inside the body": LOST,
    "reset before the headers": LOST,
    "reset inside the body": LOST,
    "half-close inside the headers": LOST,
    "half-close inside the body": LOST,
    "silence inside the headers": LATE,
    "silence inside the body": LATE,
    "one byte a second": LATE,
    "endless body": Row(BodyTooLarge, 1),
    "truncated gzip": LOST,
    "corrupt gzip": LOST,
    "two codings": Row(ResponseInvalid, 1),
    "100 first": FINE,
    "103 first": FINE,
    "many 1xx first": FINE,
    "endless 1xx": LATE,
    "chunk size that is no number": LOST,
    "chunk longer than its size": LOST,
    "last chunk missing": LOST,
    "Content-Length too short": LOST,
    "Content-Length too long": LOST,
    "Content-Length too long, then silence": LATE,
    "two Content-Lengths": LOST,
    "headers too large": LOST,
    "no HTTP": LOST,
    "redirect to itself": Row(RedirectRefused, 1),
    "redirect to another host": Row(EgressDenied, 1, post_error=RedirectRefused),
}
CALLS = {"GET": ("items.get", {"id": 7}), "POST": ("items.create", {"name": "x"})}


@pytest.fixture
async def faulty(live):
    """The application with a fault proxy before the sandbox's API; gives a function that calls through it."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
    target = urlsplit(live.sandbox.url)
    async with fault_proxy(target.hostname, target.port) as proxy:
        api = evolve(live.providers.specs["sandbox"].api, base_url=proxy.url)
        live.set(api=api)
        allowed = [target.netloc, urlsplit(proxy.url).netloc, "elsewhere.example:80"]
        settings = {
            "runtime.default_timeout": TIME,
            "transport.max_body": 100_000,
            "egress.allow": {"sandbox": allowed},
        }
        async with live.open(settings=settings) as runtime:

            async def call(method, retry, **options):
                operation, params = CALLS[method]
                async with asyncio.timeout(20):
                    return await runtime.execute(connection.id, operation, params, retry=retry, **options)

            call.proxy = proxy
            yield call


def test_table_has_every_fault():
    assert list(TABLE) == list(FAULTS)


@pytest.mark.parametrize("method", list(CALLS))
@pytest.mark.parametrize("name", list(TABLE))
async def test_fault_ends_typed_and_in_time(faulty, name, method):
    faulty.proxy.fault = FAULTS[name]
    row = TABLE[name]
    if row.error is None:
        assert (await faulty(method, ONCE)).status == {"GET": 200, "POST": 201}[method]
    else:
        with pytest.raises(ServicesError) as caught:
            await faulty(method, ONCE)
        error = caught.value.__cause__ if isinstance(caught.value, OutcomeUnknown) else caught.value
        assert type(error) is row.of(method)
        if isinstance(error, TransportError):
            assert error.sent
        assert "SSH" not in str(caught.value)
    assert len(faulty.proxy.requests) == 1


@pytest.mark.parametrize("method", list(CALLS))
@pytest.mark.parametrize("name", list(TABLE))
async def test_fault_is_followed_by_the_right_decision(faulty, name, method):
    """P81: a GET may be made again; a POST without a key that may have been carried out never is."""
    faulty.proxy.fault = FAULTS[name]
    row = TABLE[name]
    if row.error is None:
        await faulty(method, QUICKLY)
    else:
        unknown = method == "POST" and row.unknown
        with pytest.raises(OutcomeUnknown if unknown else row.of(method)):
            await faulty(method, QUICKLY)
    assert len(faulty.proxy.requests) == (row.gets if method == "GET" else row.posts)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.error not in (None, BodyTooLarge)])
async def test_next_call_is_not_touched_by_the_fault(faulty, name):
    """No answer, and no rest of one, is taken for that of another request."""
    faulty.proxy.fault = FAULTS[name]
    with pytest.raises(ServicesError):
        await faulty("GET", ONCE)
    faulty.proxy.fault = None
    for _ in range(2):
        assert (await faulty("GET", ONCE)).data["id"] == 7


async def test_bytes_after_an_answer_are_not_the_next_answer(faulty):
    """A short Content-Length whose rest looks like an answer: response splitting."""
    forged = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"id": 0}'

    async def split(exchanged, writer):
        writer.write(exchanged.with_headers() + forged)

    faulty.proxy.fault = evolve(FAULTS["delay"], spoil=split)
    assert (await faulty("GET", ONCE)).data["id"] == 7
    faulty.proxy.fault = None
    assert (await faulty("GET", ONCE)).data["id"] == 7


@pytest.mark.parametrize("method", list(CALLS))
@pytest.mark.parametrize("retry", [ONCE, QUICKLY])
async def test_server_that_is_gone_is_nothing_sent(live, method, retry):
    """Nothing was sent: both methods may be made again, and end as what it was."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
    target = urlsplit(live.sandbox.url)
    async with fault_proxy(target.hostname, target.port) as proxy:
        live.set(api=evolve(live.providers.specs["sandbox"].api, base_url=proxy.url))
        host = urlsplit(proxy.url).netloc
    slept = []
    clock = live.clock

    class Noting:
        def __getattr__(self, name):
            return getattr(clock, name)

        async def sleep(self, seconds):
            slept.append(seconds)

    async with live.open(settings={"egress.allow": {"sandbox": [target.netloc, host]}}, clock=Noting()) as runtime:
        operation, params = CALLS[method]
        with pytest.raises(ConnectFailed) as caught:
            await runtime.execute(connection.id, operation, params, retry=retry)
    assert caught.value.sent is False
    assert len(slept) == retry.attempts - 1
