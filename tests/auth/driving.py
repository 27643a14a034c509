"""Flows are generators: a test sends the answers and reads the requests itself."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.protocols import Flow

T = TypeVar("T")


def run(flow: Flow[T], *answers: HttpResponse) -> tuple[T, list[HttpRequest]]:
    """The flow's result and the requests it made; every answer must be taken."""
    waiting, requests = list(answers), []
    step = None
    try:
        step = next(flow)
        while True:
            assert isinstance(step, HttpRequest)
            requests.append(step)
            step = flow.send(waiting.pop(0))
    except StopIteration as end:
        assert not waiting
        return end.value, requests


def json_answer(fields: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status, (("Content-Type", "application/json"),), json.dumps(fields).encode())


def form_of(request: HttpRequest) -> dict[str, str]:
    """The form's fields; one that is there twice fails the test."""
    assert isinstance(request.body, bytes)
    assert request.header("Content-Type") == "application/x-www-form-urlencoded"
    pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)
