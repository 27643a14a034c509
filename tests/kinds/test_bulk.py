"""Jobs: submitted once, asked for until they end, fetched; and gone on with by another process."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from go_services_core import Operation, Param, SecretStr
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    EgressDenied,
    JobFailed,
    ProviderUnavailable,
    RequestTimeout,
    ResponseInvalid,
)
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.transport_specs import Bulk

from .conftest import LeapingClock, Site, open_client

ENDS = {"done": ("JobComplete",), "failed": ("Failed", "Aborted")}
ONCE = RetryPolicy(attempts=1)


def operation(**record: object) -> Operation:
    where = {} if {"status_url", "status_header"} & record.keys() else {"status_path": "/jobs/query/{job}"}
    given = {**ENDS, **where, "format": "csv", "result_path": "/jobs/query/{job}/results", **record}
    return Operation(
        "export",
        "POST",
        "/jobs/query",
        params=(Param("query", "body"),),
        call=Bulk(**given),  # type: ignore[arg-type]
    )


class Jobs:
    """Salesforce's bulk queries, as far as they matter here."""

    def __init__(self, site: Site, *states: object) -> None:
        self.site = site
        self.states = list(states)
        self.polls = 0
        self.submitted: list[dict] = []
        self.pages = {"": ('Id,Name\r\n1,"a,b"\r\n', "L2"), "L2": ("Id,Name\r\n2,c\r\n", "null")}
        site.on("/api/jobs/query")(self.submit)
        site.on("/api/jobs/query/750A")(self.status)
        site.on("/api/jobs/query/750A/results")(self.results)

    async def submit(self, request: web.Request) -> web.Response:
        self.submitted.append(json.loads(await request.read() or b"{}"))
        url = f"{self.site.url}/api/jobs/query/750A"
        return web.json_response({"id": "750A", "links": {"self": url}}, headers={"Location": "/api/jobs/query/750A"})

    async def status(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer tok-of-the-connection"
        state = self.states[min(self.polls, len(self.states) - 1)]
        self.polls += 1
        if isinstance(state, int):
            return web.Response(status=state)
        return web.json_response({"id": "750A", "state": state, "errorMessage": "bad query"})

    async def results(self, request: web.Request) -> web.Response:
        text, following = self.pages[request.query.get("locator", "")]
        return web.Response(text=text, content_type="text/csv", headers={"Sforce-Locator": following})


async def test_a_job_is_submitted_once_polled_until_it_is_done_and_its_pages_are_read(site):
    jobs = Jobs(site, "UploadComplete", "InProgress", "JobComplete")
    record = operation(page_header="Sforce-Locator", page_param="locator")
    async with open_client(site.url, record) as client:
        result = await client.call("export", {"query": "SELECT Id"})
        slept = list(client.clock.slept)
    assert result.data == [{"Id": "1", "Name": "a,b"}, {"Id": "2", "Name": "c"}]
    assert jobs.submitted == [{"query": "SELECT Id"}]
    assert jobs.polls == 3
    assert slept == [1, 2, 4]
    assert result.status == 200


async def test_intervals_stop_growing_at_the_longest(site):
    Jobs(site, *["InProgress"] * 5, "JobComplete")
    async with open_client(site.url, operation(interval=2.0, longest_interval=5.0)) as client:
        await client.call("export")
        assert client.clock.slept == [2, 4, 5, 5, 5, 5]


@pytest.mark.parametrize("where", [{"status_url": "links.self"}, {"status_header": "Location", "job": None}])
async def test_the_status_may_be_where_the_answer_says(site, where):
    jobs = Jobs(site, "JobComplete")
    async with open_client(site.url, operation(result_path=None, **where)) as client:
        result = await client.call("export")
    assert result.data["state"] == "JobComplete"
    assert jobs.polls == 1


async def test_a_status_on_a_foreign_host_gets_no_credential(site):
    """P35"""
    Jobs(site, "JobComplete")

    @site.on("/api/jobs/query")
    async def submit(request: web.Request) -> web.Response:
        return web.json_response({"id": "1", "links": {"self": "http://127.0.0.1:9/steal"}})

    async with open_client(site.url, operation(status_url="links.self")) as client:
        with pytest.raises(EgressDenied, match="only to its own hosts"):
            await client.call("export")


async def test_a_failed_job_is_an_error_with_its_id_state_and_reason(site):
    jobs = Jobs(site, "InProgress", "Aborted")
    async with open_client(site.url, operation(reason="errorMessage")) as client:
        with pytest.raises(JobFailed) as caught:
            await client.call("export")
    assert caught.value.metadata["job_id"] == "750A"
    assert caught.value.upstream_code == "Aborted"
    assert caught.value.excerpt == "bad query"
    assert len(jobs.submitted) == 1


async def test_polling_survives_server_errors_and_the_job_is_not_submitted_again(site):
    jobs = Jobs(site, 503, 503, 503, 502, "JobComplete")
    async with open_client(site.url, operation()) as client:
        await client.call("export", retry=ONCE)
    assert len(jobs.submitted) == 1


async def test_polling_ends_when_the_status_stays_away(site):
    Jobs(site, 503)
    async with open_client(site.url, operation(), settings={"transport.bulk.failures": 2}) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.call("export", retry=ONCE)
    assert caught.value.resume is not None


async def test_a_deadline_ends_typed_while_the_job_goes_on_and_another_process_fetches_it(site):
    jobs = Jobs(site, "InProgress")
    clock = LeapingClock()
    store = MemoryStore(clock=clock)
    async with open_client(site.url, operation(), store=store, clock=clock) as client:
        with pytest.raises(RequestTimeout) as caught:
            await client.call("export", {"query": "q"}, deadline=10)
        connection_id = client.connection_id
    assert caught.value.metadata["job_id"] == "750A"
    token = caught.value.resume.reveal()
    assert "750A" not in repr(caught.value.resume)
    jobs.states = ["JobComplete"]
    jobs.pages[""] = ("Id\n1\n", "null")
    async with open_client(site.url, operation(), store=store, clock=clock, connection_id=connection_id) as client:
        result = await client.runtime.resume(connection_id, "export", SecretStr(token))
    assert result.data == [{"Id": "1"}]
    assert len(jobs.submitted) == 1


class RealClock(FrozenClock):
    """Sleeps for real, so that the deadline strikes in the middle of it."""

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(30)


async def test_a_deadline_in_the_middle_of_a_wait_also_gives_the_token(site):
    Jobs(site, "InProgress")
    async with open_client(site.url, operation(interval=0.1), clock=RealClock()) as client:
        with pytest.raises(RequestTimeout) as caught:
            await client.call("export", deadline=0.5)
    assert caught.value.resume is not None
    assert caught.value.metadata["job_id"] == "750A"


async def test_without_a_deadline_a_call_waits_as_long_as_the_record_says(site):
    Jobs(site, "InProgress")
    async with open_client(site.url, operation(longest=500.0)) as client:
        before = client.clock.monotonic()
        with pytest.raises(RequestTimeout):
            await client.call("export")
        assert 400 < client.clock.monotonic() - before <= 500


@pytest.mark.parametrize("change", ["", "x", "e30", None])
async def test_a_token_that_is_none_or_anothers_is_refused(site, change):
    Jobs(site, "InProgress")
    other = Operation("other", "POST", "/jobs/query", call=operation().call)
    async with open_client(site.url, operation(), other) as client:
        with pytest.raises(RequestTimeout) as caught:
            await client.call("export", deadline=5)
        token = caught.value.resume if change is None else SecretStr(change)
        with pytest.raises(BadInput):
            await client.runtime.resume(client.connection_id, "other" if change is None else "export", token)


@pytest.mark.parametrize(
    ("format", "body", "expected"),
    [
        ("json", b'{"a": 1}', {"a": 1}),
        ("ndjson", b'{"a": 1}\n\n{"a": "\xe2\x80\xa8"}', [{"a": 1}, {"a": "\u2028"}]),
        ("csv", b'\xef\xbb\xbfa,b\r\n"x\r\ny",2\r\n', [{"a": "x\r\ny", "b": "2"}]),
        ("text", b"hello", "hello"),
        ("bytes", b"\x00\xff", b"\x00\xff"),
        ("csv", b"", []),
    ],
)
async def test_results_have_the_format_of_the_record(site, format, body, expected):
    jobs = Jobs(site, "JobComplete")

    @site.on("/api/jobs/query/750A/results")
    async def results(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with open_client(site.url, operation(format=format)) as client:
        assert (await client.call("export")).data == expected
    assert jobs.polls == 1


@pytest.mark.parametrize(
    ("format", "body"), [("json", b"{"), ("ndjson", b"{}\n{"), ("csv", b"a,b\n1\n"), ("text", b"\xff")]
)
async def test_a_result_of_another_format_is_invalid(site, format, body):
    Jobs(site, "JobComplete")

    @site.on("/api/jobs/query/750A/results")
    async def results(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with open_client(site.url, operation(format=format)) as client:
        with pytest.raises(ResponseInvalid):
            await client.call("export")


async def test_a_template_that_names_no_parameter_is_refused_before_the_submission(site):
    jobs = Jobs(site, "JobComplete")
    async with open_client(site.url, operation(result_path="/x/{nothing}")) as client:
        with pytest.raises(BadInput, match="nothing"):
            await client.call("export")
    assert not jobs.submitted


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"status_path": "/a", "status_url": "b"},
        {"status_path": "/a", "result_path": "/b", "result_url": "c"},
        {"status_path": "/a", "page_header": "X"},
        {"status_path": "/a", "page_header": "X", "page_param": "x", "format": "json"},
        {"status_path": "/a", "interval": 0},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError):
        Bulk(**ENDS, **change)
