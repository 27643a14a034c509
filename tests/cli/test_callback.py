"""The listener behind ``connect``, over real sockets."""

from __future__ import annotations

import http.client
import socket
from threading import Thread

import pytest

from go_services_core.cli.callback import CallbackListener


def get(listener: CallbackListener, target: str, host: str | None = None) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(listener.host, timeout=10)
    try:
        connection.request("GET", target, headers={"Host": host or listener.host})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def test_callback_is_answered_with_a_redirect_that_stores_and_refers_nothing() -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        status, headers, body = get(listener, "/callback?code=c1&state=s1")
        assert (status, headers["Location"], body) == (303, "/done", "")
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert listener.wait(1) == "code=c1&state=s1"
        listener.settle("Connected", "done")
        get(listener, "/done")


def test_page_is_escaped_and_may_run_nothing() -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        get(listener, "/callback?error=x&state=s1")
        listener.settle("Not <b>connected</b>", "<script>alert('1')</script>")
        status, headers, body = get(listener, "/done")
    assert status == 200
    assert "<script>" not in body
    assert "&lt;script&gt;alert(&#x27;1&#x27;)" in body
    assert "Not &lt;b&gt;connected" in body
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["Cache-Control"] == "no-store"


def test_page_waits_until_it_is_known_how_it_ended() -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        get(listener, "/callback?code=c&state=s1")
        pages: list[str] = []
        browser = Thread(target=lambda: pages.append(get(listener, "/done")[2]))
        browser.start()
        assert not pages
        listener.settle("Connected", "acme")
        browser.join(10)
    assert "acme" in pages[0]


@pytest.mark.parametrize(
    "target",
    [
        "/callback",
        "/callback?code=c",
        "/callback?code=c&state=other",
        "/callback?state=s1&state=s1",
        "/callback?state=",
    ],
)
def test_callback_of_another_consent_is_refused_and_not_taken(target: str) -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        assert get(listener, target)[0] == 400
        assert listener.wait(0) is None


def test_nothing_is_taken_before_the_consent_is_known() -> None:
    with CallbackListener() as listener:
        assert get(listener, "/callback?code=c&state=")[0] == 400
        assert listener.wait(0) is None


def test_second_callback_is_refused() -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        assert get(listener, "/callback?code=first&state=s1")[0] == 303
        assert get(listener, "/callback?code=second&state=s1")[0] == 400
        assert listener.wait(0) == "code=first&state=s1"
        listener.settle("Connected", "")
        get(listener, "/done")


def test_request_for_another_host_name_is_refused() -> None:
    with CallbackListener() as listener:
        listener.expect("https://provider.example/authorize?state=s1")
        assert get(listener, "/callback?code=c&state=s1", host="evil.example")[0] == 421
        assert get(listener, "/elsewhere")[0] == 404
        assert listener.wait(0) is None


def test_listens_on_127_0_0_1_only() -> None:
    with CallbackListener() as listener:
        port = int(listener.host.partition(":")[2])
        assert listener.redirect_uri == f"http://127.0.0.1:{port}/callback"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_port_in_use_is_an_error_of_the_operating_system() -> None:
    with CallbackListener() as listener:
        port = int(listener.host.partition(":")[2])
        with pytest.raises(OSError, match="in use"):
            CallbackListener(port)
