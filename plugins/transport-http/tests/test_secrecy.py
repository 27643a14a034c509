"""With every logger at DEBUG and asyncio in debug mode, no secret of a request is in a log, an error or a traceback."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable

import pytest

from go_services_core.errors import ServicesError
from go_services_core.http import HttpRequest
from go_services_core.testing.rawserver import Answer, http_answer, raw_server
from go_services_transport_http.transport import HttpTransport

SECRETS = ("hunter2", "aHVudGVyMg", "s3cr3t-body", "s3cr3t-answer")


async def cut(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ns3cr3t-answer")
    await writer.drain()
    writer.close()


async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drop(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


def chain(error: BaseException | None) -> str:
    """Everything that a log or an error tracker could show, suppressed contexts included."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception(error, chain=False)) + repr(error) + repr(error.args)
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(200, b"s3cr3t-answer"),
        http_answer(401, b"s3cr3t-answer", (("Set-Cookie", "k=hunter2"),)),
        b"HTTP/1.1 nonsense s3cr3t-answer\r\n\r\n",
        http_answer(200, b"s3cr3t-answer" * 1000),
        cut,
        hang,
        drop,
        None,
    ],
)
async def test_no_secret_is_shown(
    make: Callable[..., HttpTransport], caplog: pytest.LogCaptureFixture, answer: Answer | None
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "aiohttp.client", "aiohttp.internal", "go_services"):
        caplog.set_level(logging.DEBUG, name)
    asyncio.get_running_loop().set_debug(True)
    transport = make(max_body=5000)
    errors: list[ServicesError] = []
    async with raw_server(*([] if answer is None else [answer])) as server:
        url = server.url("/hunter2?key=hunter2")
        urls = [url, url.replace("127.0.0.1", "127.0.0.2"), url.replace("127.0.0.1", "user:hunter2@127.0.0.1")]
        if answer is None:
            urls += [f"http://127.0.0.1:{_free_port()}/?key=hunter2", "https://no-such-host.invalid/?key=hunter2"]
        for each in urls:
            request = HttpRequest(
                "POST", each, (("Authorization", "Basic aHVudGVyMg=="), ("X-Key", "hunter2")), b"s3cr3t-body", 0.2
            )
            try:
                await transport.send(request, provider_id="kit")
            except ServicesError as error:
                errors.append(error)
        await transport.aclose()
    assert len(errors) >= 2
    shown = caplog.text + "".join(chain(each) + str(each.as_dict()) for each in errors)
    assert "127.0.0.1" in shown
    assert [secret for secret in SECRETS if secret in shown] == []


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
