"""Jobs at the provider: submit, ask for the status until it ends, fetch the result."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Generator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin

from go_services_core.auth.identity import pick
from go_services_core.call_specs import OperationCall
from go_services_core.errors import BadInput, JobFailed, ResponseInvalid, ServicesError
from go_services_core.exchange import Answer, Checkpoint, Exchange, Send, Step, Wait
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.protocols import PluginEnv
from go_services_core.transport_specs import Bulk

from .settings import BulkSettings, require_above_zero

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ACCEPT: Final = {
    "json": "application/json",
    "ndjson": "application/x-ndjson, application/json;q=0.5",
    "csv": "text/csv, */*;q=0.5",
    "text": "text/plain, */*;q=0.5",
    "bytes": "*/*",
}
_PAGES: Final = 10_000


def open_bulk(settings: BulkSettings, env: PluginEnv) -> BulkTransport:
    """The transport kind ``bulk``.

    Raises:
        ConfigError: a setting cannot be used.
    """
    return BulkTransport(settings)


class BulkTransport:
    """Waits for jobs. Where a call ends before its job, the error's ``resume`` lets another call wait on."""

    def __init__(self, settings: BulkSettings) -> None:
        require_above_zero(settings, "max_result", "failures")
        self._settings = settings

    def exchange(self, call: OperationCall) -> Exchange:
        """The steps from the submission, or from the checkpoint of an earlier call, to the result.

        Raises:
            BadInput: the record is not a :class:`Bulk`, or its templates name what is no parameter.
            JobFailed: the job ended without a result.
            RequestTimeout: it did not end in the time that there is.
        """
        spec = call.record
        if not isinstance(spec, Bulk):
            raise BadInput("The kind bulk takes a Bulk record.", field="call")
        for template in (spec.status_path, spec.result_path):
            _fill(call, template or "", job="")
        if call.resume is None:
            request = HttpRequest(call.method, call.url, call.headers, _json(call), call.timeout)
            response: HttpResponse = yield Send(request=request)
            job, status_url = _submitted(call, spec, response)
        else:
            job, status_url = str(call.resume.get("job", "")), str(call.resume.get("status", ""))
        yield Checkpoint(
            resume={"job": job, "status": status_url, "params": dict(call.params)}, metadata={"job_id": job}
        )
        response, status = yield from self._ended(call, spec, job, status_url)
        if spec.result_url is not None:
            found = pick(status, spec.result_url)
            if not isinstance(found, str) or not found:
                raise ResponseInvalid(f"The status of job {job} has no URL at {spec.result_url!r}.")
            return (yield from self._result(call, spec, urljoin(status_url, found)))
        if spec.result_path is not None:
            return (yield from self._result(call, spec, call.base_url + _fill(call, spec.result_path, job=job)))
        return Answer(status, response)

    def _ended(
        self, call: OperationCall, spec: Bulk, job: str, status_url: str
    ) -> Generator[Step, Any, tuple[HttpResponse, Any]]:
        """The status of the job that has ended well."""
        request = _get(call, status_url, "application/json")
        interval, failures = spec.interval, 0
        while True:
            yield Wait(interval)
            interval = min(interval * 2, spec.longest_interval)
            try:
                response: HttpResponse = yield Send(request=request, safe=True)
            except ServicesError as error:
                failures += 1
                if not error.retryable or failures >= self._settings.failures:
                    raise
                continue
            failures = 0
            status = response.json()
            state = pick(status, spec.state) if isinstance(status, dict) else None
            if isinstance(state, bool) or not isinstance(state, (str, int)):
                raise ResponseInvalid(f"The status of job {job} has no state at {spec.state!r}.")
            if str(state) in spec.failed:
                raise _failed(call, spec, job, str(state), status, response)
            if str(state) in spec.done:
                return response, status

    def _result(self, call: OperationCall, spec: Bulk, url: str) -> Exchange:
        items: list[Any] = []
        following = url
        for _ in range(_PAGES):
            request = _get(call, following, _ACCEPT[spec.format], max_body=self._settings.max_result)
            response: HttpResponse = yield Send(request=request, safe=True)
            if spec.format in {"json", "text", "bytes"}:
                return Answer(_single(spec, response), response)
            items += _ndjson(response) if spec.format == "ndjson" else _csv(response)
            locator = response.header(spec.page_header) if spec.page_header is not None else None
            if not locator or locator == "null" or spec.page_param is None:
                return Answer(items, response)
            following = url + ("&" if "?" in url else "?") + urlencode({spec.page_param: locator})
        raise ResponseInvalid(f"The result of operation {call.operation_id} has more than {_PAGES} pages.")


def _submitted(call: OperationCall, spec: Bulk, response: HttpResponse) -> tuple[str, str]:
    """The job's id and the URL of its status."""
    answer = response.json() if response.body else None
    job = pick(answer, spec.job) if spec.job is not None else ""
    if isinstance(job, bool) or not isinstance(job, (str, int)) or (spec.job is not None and job == ""):
        raise ResponseInvalid(f"The answer to {call.operation_id} has no job at {spec.job!r}.")
    url: Any
    if spec.status_path is not None:
        return str(job), call.base_url + _fill(call, spec.status_path, job=str(job))
    url = response.header(spec.status_header) if spec.status_header is not None else pick(answer, str(spec.status_url))
    if not isinstance(url, str) or not url:
        where = spec.status_header or spec.status_url
        raise ResponseInvalid(f"The answer to {call.operation_id} has no URL of the status in {where!r}.")
    return str(job), urljoin(call.url, url)


def _failed(call: OperationCall, spec: Bulk, job: str, state: str, status: Any, response: HttpResponse) -> JobFailed:
    reason = pick(status, spec.reason) if spec.reason is not None else None
    return JobFailed(
        f"Job {job} of operation {call.operation_id} ended as {state}.",
        upstream_status=response.status,
        upstream_code=state,
        excerpt=str(reason)[:300] if reason is not None else None,
        plugin=call.provider_id,
        metadata={"job_id": job},
    )


def _fill(call: OperationCall, template: str, *, job: str) -> str:
    values = {**{name: value for name, value in call.params.items() if isinstance(value, (str, int))}, "job": job}

    def value(found: re.Match[str]) -> str:
        text = str(values[found[1]])
        if text in {".", ".."}:
            raise KeyError(found[1])
        return quote(text, safe="")

    try:
        return _PLACEHOLDER.sub(value, template)
    except (KeyError, UnicodeEncodeError):
        raise BadInput(
            f"The template {template!r} of operation {call.operation_id} names what it does not get.", field="call"
        ) from None


def _get(call: OperationCall, url: str, accept: str, *, max_body: int | None = None) -> HttpRequest:
    headers = tuple(pair for pair in call.headers if pair[0].lower() != "content-type")
    return HttpRequest("GET", url, headers, None, call.timeout, max_body).with_header("Accept", accept)


def _json(call: OperationCall) -> bytes | None:
    if not call.body:
        return None
    try:
        return json.dumps(dict(call.body), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"The body cannot be written as JSON: {error}.", field="body") from None


def _single(spec: Bulk, response: HttpResponse) -> Any:
    if spec.format == "json":
        return response.json()
    return response.body if spec.format == "bytes" else _decoded(response)


def _ndjson(response: HttpResponse) -> list[Any]:
    found = []
    for number, line in enumerate(response.body.split(b"\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line.decode()))
            except (ValueError, RecursionError):
                raise ResponseInvalid(f"Line {number} of the result is not JSON.") from None
    return found


def _csv(response: HttpResponse) -> list[Mapping[str, Any]]:
    """Rows by the names in the first line (RFC 4180)."""
    try:
        rows = list(csv.reader(io.StringIO(_decoded(response), newline=""), strict=True))
    except csv.Error as error:
        raise ResponseInvalid(f"The result is not CSV: {error}.") from None
    if not rows:
        return []
    if any(row and len(row) != len(rows[0]) for row in rows):
        raise ResponseInvalid("The result is not CSV: a row is not as long as the first.")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row]


def _decoded(response: HttpResponse) -> str:
    try:
        return response.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ResponseInvalid(f"The result is not UTF-8 ({len(response.body)} bytes).") from None
