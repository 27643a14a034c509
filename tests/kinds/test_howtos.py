"""The how-tos on transport kinds do what they say, against a server that speaks the protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from .conftest import Site, open_client

PAGES = Path(__file__).parents[2] / "docs/how-to"


def example(name: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", (PAGES / name).read_text(), re.MULTILINE | re.DOTALL):
        exec(block, made)
    return made


def speak(site: Site) -> None:
    async def products(request: web.Request) -> web.Response:
        assert (await request.json())["variables"] == {"first": 2}
        return web.json_response({"data": {"products": {"nodes": [{"id": "1"}]}}})

    async def workers(request: web.Request) -> web.Response:
        env = "http://schemas.xmlsoap.org/soap/envelope/"
        body = f'<e:Envelope xmlns:e="{env}"><e:Body><R><Worker>A</Worker></R></e:Body></e:Envelope>'
        return web.Response(text=body, content_type="text/xml")

    async def job(request: web.Request) -> web.Response:
        return web.json_response({"id": "7", "state": "JobComplete"})

    async def results(request: web.Request) -> web.Response:
        return web.Response(text="Id\n1\n")

    async def events(request: web.Request) -> web.Response:
        return web.Response(body=b"id: 1\ndata: a\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    async def begin(request: web.Request) -> web.Response:
        return web.Response(headers={"Location": "/api/session"})

    async def chunk(request: web.Request) -> web.Response:
        assert request.headers["Content-Range"] == "bytes 0-7/8"
        return web.json_response({"got": (await request.read()).decode()})

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=b"pdf")

    site.handlers.update(
        {
            "/api/graphql.json": products,
            "/api/Human_Resources/v46.0": workers,
            "/api/jobs/query": job,
            "/api/jobs/query/7": job,
            "/api/jobs/query/7/results": results,
            "/api/events": events,
            "/api/files": begin,
            "/api/session": chunk,
            "/api/files/1": file,
        }
    )


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("call-graphql.md", [{"id": "1"}]),
        ("call-soap.md", ["A"]),
        ("run-bulk-jobs.md", [{"Id": "1"}]),
        ("stream-answers.md", [("1", "a")]),
        ("upload-and-download-files.md", {"got": "a report"}),
    ],
)
async def test_each_how_to_works(site, tmp_path, monkeypatch, page, expected):
    monkeypatch.chdir(tmp_path)
    speak(site)
    made = example(page)
    operations = [made["OPERATION"], *([made["DOWNLOAD"]] if "DOWNLOAD" in made else [])]
    async with open_client(site.url, *operations) as client:
        assert await made["use"](client.runtime, client.connection_id) == expected
        if "fetch" in made:
            assert (await made["fetch"](client.runtime, client.connection_id))["size"] == 3
    assert ("fetch" in made) == (tmp_path / "report.pdf").exists()
