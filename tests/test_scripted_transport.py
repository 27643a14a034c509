from __future__ import annotations

import pytest

from go_services_core.errors import ConnectFailed
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.protocols import Transport
from go_services_core.testing.transport import ScriptedTransport

OK = HttpResponse(200, (), b"{}")


async def test_answers_come_in_order_and_requests_are_kept() -> None:
    transport = ScriptedTransport().expect("GET", "https://api.example/a", OK)
    transport.expect("GET", "/b", HttpResponse(404)).expect("POST", "/c", ConnectFailed("refused"))
    sent = [HttpRequest("GET", f"https://api.example/{name}") for name in "ab"]
    assert [await transport.send(request, provider_id="acme") for request in sent] == [OK, HttpResponse(404)]
    with pytest.raises(ConnectFailed, match="refused"):
        await transport.send(HttpRequest("POST", "https://api.example/c"), provider_id="twin")
    assert transport.requests[:2] == sent
    assert transport.provider_ids == ["acme", "acme", "twin"]
    transport.done()


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("https://h.example/a", "https://h.example/a", True),
        ("https://h.example/a", "https://h.example/a?q=1", True),
        ("https://h.example/a?q=1", "https://h.example/a?q=1#part", True),
        ("https://h.example/a?q=1", "https://h.example/a?q=2", False),
        ("https://h.example/a?q=1", "https://h.example/a", False),
        ("https://h.example/a", "http://h.example/a", False),
        ("https://h.example/a", "https://h.example:8443/a", False),
        ("/a", "https://h.example/a?q=1", True),
        ("/a?q=1", "https://h.example/a?q=1", True),
        ("/a", "https://h.example/a/b", False),
        ("/", "https://h.example", True),
    ],
)
async def test_url_is_compared_as_far_as_it_is_written(pattern: str, url: str, matches: bool) -> None:
    transport = ScriptedTransport().expect("GET", pattern, OK)
    if matches:
        assert await transport.send(HttpRequest("GET", url), provider_id="acme") == OK
        transport.done()
    else:
        with pytest.raises(AssertionError, match="the URL is"):
            await transport.send(HttpRequest("GET", url), provider_id="acme")


async def test_mismatch_shows_what_was_sent_and_what_was_expected() -> None:
    transport = ScriptedTransport().expect("GET", "/a", OK).expect("GET", "/later", OK)
    with pytest.raises(AssertionError) as caught:
        await transport.send(HttpRequest("PUT", "https://h.example/a?q=1"), provider_id="acme")
    message = str(caught.value)
    assert "Request 1 is not the expected one: the method is PUT." in message
    assert "sent:     PUT https://h.example/a?q=1" in message
    assert "expected: GET /a" in message
    assert "then:     GET /later" in message


async def test_condition_must_hold() -> None:
    def has_key(request: HttpRequest) -> bool:
        return request.header("x-key") == "1"

    transport = ScriptedTransport().expect("GET", "/a", OK, where=has_key)
    with pytest.raises(AssertionError, match="the condition does not hold") as caught:
        await transport.send(HttpRequest("GET", "https://h.example/a"), provider_id="acme")
    assert "GET /a where has_key" in str(caught.value)
    request = HttpRequest("GET", "https://h.example/a", (("X-Key", "1"),))
    assert await transport.send(request, provider_id="acme") == OK


async def test_done_names_what_was_never_sent() -> None:
    transport = ScriptedTransport().expect("GET", "/a", OK).expect("POST", "/b", OK)
    await transport.send(HttpRequest("GET", "https://h.example/a"), provider_id="acme")
    with pytest.raises(AssertionError, match=r"Never sent:\n  POST /b"):
        transport.done()


async def test_mismatch_that_the_caller_swallowed_comes_back_from_done() -> None:
    transport = ScriptedTransport()
    with pytest.raises(AssertionError, match="the script has ended"):
        await transport.send(HttpRequest("GET", "https://h.example/a"), provider_id="acme")
    with pytest.raises(AssertionError, match="the script has ended"):
        transport.done()


async def test_closing_is_noted() -> None:
    transport = ScriptedTransport()
    served: Transport = transport
    await served.aclose()
    assert transport.closed
