"""What every web face must do. The subject is a :class:`~go_services_core.testing.face.FaceSubject`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ...errors import StoreUnavailable
from ...http import HttpResponse
from ..face import BODY_LIMIT, RETURN_TO, Answer, FaceSubject
from ..kit import Skipped, check

HOOK = "/webhooks/sandbox"
BODY = b'{ "type":"item.created" , "n": 1.0,\r\n "data": "\xc3\xbc\x00" }'
USER = {"X-User": "u1"}


async def _deliver(face: FaceSubject, **headers: str) -> Answer:
    return await face.send("POST", HOOK, {**face.signed(BODY), **headers}, BODY)


async def _kept(face: FaceSubject) -> int:
    return len((await face.app.store.queues.list("inbox")).items)


@check("FACE-001", "face")
async def raw_bytes_reach_the_runtime(face: FaceSubject) -> None:
    """Body, path and query reach the runtime exactly as they were sent (P60)."""
    seen = []

    async def handler(event: Any, context: Any) -> None:
        seen.append(await context.request())

    await face.call(face.runtime.on, "webhook.*", handler, name="kit")
    sent = await face.send("POST", "/webhooks/sand%62ox?q=a%2Fb+c", face.signed(BODY), BODY)
    assert (sent.status, sent.body) == (200, b"")
    for _ in range(2):
        await face.call(face.runtime.drain)
    (request,) = seen
    assert request.body == BODY
    assert request.target == f"{face.app.mount}/webhooks/sand%62ox?q=a%2Fb+c"
    assert request.header("webhook-id") == "msg_1"


@check("FACE-002", "face")
async def duplicate_is_answered_200(face: FaceSubject) -> None:
    """A delivery that comes again is answered 200 and kept once."""
    assert [(await _deliver(face)).status for _ in range(2)] == [200, 200]
    assert await _kept(face) == 1


@check("FACE-003", "face")
async def what_is_not_authentic_is_answered_401(face: FaceSubject) -> None:
    """A wrong, malformed or missing signature, time or id is answered 401 and never 500; nothing is kept (P61, P62)."""
    wrong = ["v1,forged", "v1,", "v1", "", "\xff\xfe", "v1,\xff", ",,, v1,a=", "v1," + "A" * 5000]
    for value in wrong:
        assert (await _deliver(face, **{"webhook-signature": value})).status == 401, value
    for value in ("soon", "-1", "9" * 40, "1e9", "\xb2"):
        assert (await _deliver(face, **{"webhook-timestamp": value})).status == 401, value
    for name in ("webhook-signature", "webhook-timestamp", "webhook-id"):
        headers = face.signed(BODY)
        del headers[name]
        assert (await face.send("POST", HOOK, headers, BODY)).status == 401, name
    assert (await face.send("POST", HOOK, face.signed(BODY), BODY.replace(b" ", b""))).status == 401
    assert await _kept(face) == 0


@check("FACE-004", "face")
async def handshake_is_answered_by_the_scheme(face: FaceSubject) -> None:
    """What the scheme answers to a handshake is sent as plain text."""
    answer = await face.send("GET", "/webhooks/kit?challenge=1158201444")
    assert (answer.status, answer.body) == (200, b"1158201444")
    assert (answer.header("content-type") or "").startswith("text/plain")
    assert answer.header("x-content-type-options") == "nosniff"


@check("FACE-005", "face")
async def nobody_learns_who_receives(face: FaceSubject) -> None:
    """An unknown provider, one without webhooks, an unknown connection and a wrong signature are answered 401, all
    alike."""
    paths = ("/webhooks/unknown", "/webhooks/silent", f"{HOOK}/unknown", "/webhooks/sandbox%2Fx", "/webhooks/unknown/x")
    answers = [await face.send("POST", path, face.signed(BODY), BODY) for path in paths]
    answers.append(await _deliver(face, **{"webhook-signature": "v1,AAAA"}))
    answers.append(await face.send("POST", HOOK, {}, BODY))
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    for word in (b"sandbox", b"unknown", b"signature", b"header"):
        assert word not in answers[0].body, word


@check("FACE-006", "face")
async def body_that_says_it_is_too_large_is_refused_unread(face: FaceSubject) -> None:
    """A body whose length is over the limit is answered 413 before any of it came."""
    if not face.reads_itself:
        raise Skipped("the server has the body before the face")
    headers = {**face.signed(BODY), "Content-Length": "5000000000"}
    assert (await face.raw("POST", HOOK, headers)).status == 413
    assert await _kept(face) == 0


@check("FACE-007", "face")
async def body_that_grows_too_large_is_refused(face: FaceSubject) -> None:
    """A body of untold length is answered 413 once it is over the limit, before its end."""
    if not face.reads_itself or not face.sends_chunked:
        raise Skipped("the server has the body before the face, or takes none of untold length")
    chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    headers = {**face.signed(BODY), "Transfer-Encoding": "chunked"}
    answer = await face.raw("POST", HOOK, headers, *([chunk] * (BODY_LIMIT // 0x8000 + 1)))
    assert answer.status == 413


@check("FACE-008", "face")
async def slow_body_is_refused(face: FaceSubject) -> None:
    """A body that does not come in time is answered 408."""
    if not face.reads_itself:
        raise Skipped("the server decides how long it waits for a body")
    headers = {**face.signed(BODY), "Content-Length": str(len(BODY))}
    assert (await face.raw("POST", HOOK, headers, BODY[:3])).status == 408


@check("FACE-009", "face")
async def compressed_body_is_refused_unread(face: FaceSubject) -> None:
    """A compressed body is answered 415, before any of it came where the face reads it, and never undone. A server may
    refuse with 400 a coding that it would undo and does not know."""
    for coding, statuses in (("gzip", [415]), ("deflate", [415]), ("br", [400, 415]), ("x-unknown", [415])):
        headers = {**face.signed(BODY), "Content-Encoding": coding}
        answer = (
            await face.raw("POST", HOOK, {**headers, "Content-Length": "1000"})
            if face.reads_itself
            else await face.send("POST", HOOK, headers, BODY)
        )
        assert answer.status in statuses, coding
        assert answer.status == 400 or answer.header("accept-encoding") == "identity"


@check("FACE-010", "face")
async def delivery_that_cannot_be_kept_is_asked_for_again(face: FaceSubject) -> None:
    """While the store fails a delivery is answered 503 with Retry-After and without details; later it is taken."""
    face.app.break_store()
    failed = await _deliver(face)
    assert (failed.status, failed.header("retry-after")) == (503, "5")
    assert b"db.internal" not in failed.body
    face.app.mend_store()
    assert (await _deliver(face)).status == 200


@check("FACE-011", "face")
async def broken_scheme_gives_no_500(face: FaceSubject) -> None:
    """A scheme that raises is answered 503 with Retry-After, so that the delivery comes again."""
    answer = await face.send("POST", "/webhooks/kit", {"X-Kit": "crash"}, b"{}")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert b"broken" not in answer.body


@check("FACE-012", "face")
async def other_methods_and_paths_are_refused(face: FaceSubject) -> None:
    """Another method is answered 405 with Allow, another path 404; metrics and status are not there unless told."""
    for path, method, allowed in (
        (HOOK, "DELETE", "GET, POST"),
        ("/connect/sandbox", "GET", "POST"),
        ("/callback", "PUT", "GET, POST"),
    ):
        answer = await face.send(method, path)
        assert (answer.status, answer.header("allow")) == (405, allowed), path
    for path in ("/metrics", "/status", "/webhooks", f"{HOOK}/a/b", "/callback/a/b"):
        assert (await face.send("GET", path)).status == 404, path


@check("FACE-020", "face")
async def consent_begins_with_a_cookie_of_its_own(face: FaceSubject) -> None:
    """Beginning a consent is a POST of the same origin by somebody who is signed in. It is answered 303, with a cookie
    that only this browser has: ``__Host-``, Secure, HttpOnly, SameSite=Lax, one for each consent."""
    cookies = set()
    for _ in range(2):
        answer = await face.send("POST", "/connect/sandbox", {**USER, "Sec-Fetch-Site": "same-origin"})
        assert answer.status == 303
        assert (answer.header("location") or "").startswith(f"{face.app.sandbox.url}/authorize?")
        assert answer.header("cache-control") == "no-store"
        pair, *flags = (answer.header("set-cookie") or "").split(";")
        cookies.add(pair.partition("=")[0])
        given = {flag.strip().partition("=")[0].lower(): flag.strip().partition("=")[2] for flag in flags}
        assert pair.startswith("__Host-")
        assert (given["path"], given["samesite"].lower()) == ("/", "lax")
        assert {"secure", "httponly", "max-age"} <= given.keys()
        assert "domain" not in given
    assert len(cookies) == 2
    for headers, status in (
        ({}, 401),
        ({**USER, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**USER, "Sec-Fetch-Site": "same-site"}, 403),
        ({**USER, "Origin": "https://evil.example"}, 403),
        ({**USER, "Origin": "null"}, 403),
    ):
        assert (await face.send("POST", "/connect/sandbox", headers)).status == status, headers
    assert (await face.send("POST", "/connect/sandbox?scope=user:u2", USER)).status == 400
    assert (await face.send("POST", "/connect/sandbox?return_to=https://evil.example/", USER)).status == 400
    assert (await face.send("POST", "/connect/unknown", USER)).status == 404


async def _begun(face: FaceSubject, query: str = "") -> tuple[str, dict[str, str]]:
    """The browser's cookie and the callback's parameters."""
    answer = await face.send("POST", f"/connect/sandbox{query}", USER)
    assert answer.status == 303, answer.body
    cookie = (answer.header("set-cookie") or "").partition(";")[0]
    return cookie, await face.app.sandbox.consent(answer.header("location") or "")


@check("FACE-021", "face")
async def callback_connects_and_leaves(face: FaceSubject) -> None:
    """A callback connects the account, is answered 303 to ``return_to``, and takes its cookie away. Nothing may keep
    the answer or pass its URL on; the same callback again is refused."""
    cookie, params = await _begun(face, "?" + urlencode({"return_to": RETURN_TO}))
    path = f"/callback?{urlencode(params)}"
    answer = await face.send("GET", path, {"Cookie": f"other=1; {cookie}"})
    assert (answer.status, answer.header("location")) == (303, RETURN_TO)
    assert (answer.header("cache-control"), answer.header("referrer-policy")) == ("no-store", "no-referrer")
    taken = answer.header("set-cookie") or ""
    assert taken.startswith(cookie.partition("=")[0])
    assert "max-age=0" in taken.lower()
    (connection,) = (await face.call(face.runtime.connections)).items
    assert (str(connection.scope), connection.status) == ("user:u1", "active")
    assert await face.call(face.runtime.connection_counts) == {"sandbox": {"active": 1}}
    again = await face.send("GET", path, {"Cookie": cookie})
    assert again.status == 401
    assert params["code"].encode() not in again.body


@check("FACE-022", "face")
async def callback_in_another_browser_is_refused(face: FaceSubject) -> None:
    """A callback without the cookie of its consent is refused and uses up nothing: the right browser still connects."""
    cookie, params = await _begun(face)
    other, _ = await _begun(face)
    path = f"/callback?{urlencode(params)}"
    for headers in ({}, {"Cookie": other}, {"Cookie": cookie.partition("=")[0] + "=wrong"}):
        refused = await face.send("GET", path, headers)
        assert refused.status == 401
        assert refused.header("set-cookie") is None
    assert (await face.call(face.runtime.connections)).items == ()
    assert (await face.send("GET", path, {"Cookie": cookie})).status == 200


@check("FACE-023", "face")
async def callback_with_a_parameter_twice_is_refused(face: FaceSubject) -> None:
    """A callback with a parameter twice is answered 400, and one without a state 401; neither uses up anything."""
    cookie, params = await _begun(face)
    path = f"/callback?{urlencode(params)}"
    for name in ("code", "state", "iss"):
        assert (await face.send("GET", f"{path}&{name}=other", {"Cookie": cookie})).status == 400, name
    assert (await face.send("GET", "/callback?code=c", {"Cookie": cookie})).status == 401
    assert (await face.send("GET", path, {"Cookie": cookie})).status == 200


@check("FACE-024", "face")
async def error_of_a_callback_is_escaped(face: FaceSubject) -> None:
    """An error of the provider is shown as a page with everything escaped, or as JSON to who prefers that."""
    said = {"error": "access_denied", "error_description": "<img src=x onerror=alert(1)>"}
    shown = []
    for accept in ("text/html,*/*;q=0.8", "application/json"):
        cookie, params = await _begun(face)
        query = urlencode({"state": params["state"], "iss": params["iss"], **said})
        shown.append(await face.send("GET", f"/callback?{query}", {"Cookie": cookie, "Accept": accept}))
    page, data = shown
    assert [page.status, data.status] == [401, 401]
    assert b"<img" not in page.body
    assert b"onerror" in page.body
    assert "default-src 'none'" in (page.header("content-security-policy") or "")
    assert data.header("content-type") == "application/json"
    assert b"SERVICE_OAUTH_CALLBACK_REFUSED" in data.body
    assert (await face.call(face.runtime.connections)).items == ()


@check("FACE-025", "face")
async def callback_may_come_as_a_form(face: FaceSubject) -> None:
    """A callback that is posted as a form connects as well (OAuth 2.0 Form Post Response Mode); as JSON it is 415."""
    cookie, params = await _begun(face)
    form = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    assert (await face.send("POST", "/callback", {**form, "Content-Type": "application/json"}, b"{}")).status == 415
    assert (await face.send("POST", "/callback", form, urlencode(params).encode())).status == 200


@check("FACE-026", "face")
async def callback_at_another_path_is_refused(face: FaceSubject) -> None:
    """A callback at another URL than the one for which the consent was begun is refused and uses up nothing."""
    cookie, params = await _begun(face)
    path = f"?{urlencode(params)}"
    assert (await face.send("GET", f"/callback/other{path}", {"Cookie": cookie})).status == 401
    assert (await face.send("GET", f"/callback{path}", {"Cookie": cookie})).status == 200


@check("FACE-030", "face")
async def health_tells_live_from_ready(face: FaceSubject) -> None:
    """A process that answers is live. It is ready while its health checks pass; a failing one is named, no more."""
    live = await face.send("GET", "/health/live")
    ready = await face.send("GET", "/health")
    assert (live.status, ready.status, ready.body) == (200, 200, b'{"status":"ok"}')
    assert (await face.send("GET", "/health/other")).status == 404


@check("FACE-031", "face")
async def failing_health_check_is_answered_503(face: FaceSubject) -> None:
    """With a health check that fails the process is live and not ready: 503; the check is named and nothing is told."""

    async def refuse() -> Any:
        raise RuntimeError("the database at db.internal:5432 does not answer")

    face.app.store.status = refuse  # type: ignore[method-assign]
    ready = await face.send("GET", "/health/ready")
    assert (ready.status, ready.body) == (503, b'{"status":"failing","checks":["store"]}')
    assert (await face.send("GET", "/health/live")).status == 200


@check("FACE-032", "face")
async def surface_gives_the_answer_of_its_handler(face: FaceSubject) -> None:
    """What a surface's handler answers is the answer; what is not authentic is 401, and 404 where nobody answers."""

    async def handler(request: Any, context: Any) -> HttpResponse:
        return HttpResponse(201, (("Content-Type", "text/plain"), ("X-Said", "yes")), b"done: " + request.body)

    await face.call(face.runtime.on_request, "command", "kit", handler)
    answer = await face.send("POST", "/surfaces/command/kit", {"X-Kit": "k1"}, b"now")
    assert (answer.status, answer.header("x-said"), answer.body) == (201, "yes", b"done: now")
    assert (await face.send("POST", "/surfaces/command/kit", {}, b"now")).status == 401
    for path in ("/surfaces/interaction/kit", "/surfaces/command/unknown", "/surfaces/other/kit"):
        assert (await face.send("POST", path, {"X-Kit": "k2"}, b"now")).status == 404, path


@check("FACE-033", "face")
async def failed_handler_of_a_surface_tells_what_may_follow(face: FaceSubject) -> None:
    """A handler that fails is answered 502 without what only operators may know, and 410 once it is not run again."""

    async def handler(request: Any, context: Any) -> HttpResponse:
        raise StoreUnavailable("the database at db.internal:5432 does not answer")

    await face.call(face.runtime.on_request, "command", "kit", handler)
    answers = [await face.send("POST", "/surfaces/command/kit", {"X-Kit": "k1"}, b"now") for _ in range(6)]
    assert [answer.status for answer in answers] == [502] * 5 + [410]
    assert not any(b"db.internal" in answer.body for answer in answers)
    assert b"SERVICE_REQUEST_EXHAUSTED" in answers[5].body


@check("FACE-034", "face")
async def application_may_answer_deliveries_itself(face: FaceSubject) -> None:
    """Where a handler answers on the surface ``webhook``, a delivery gets its answer and is not kept. While it fails,
    the answer is 503 with Retry-After, however often: never 410, at which senders disable the endpoint."""
    failing = True

    async def handler(request: Any, context: Any) -> HttpResponse:
        if failing:
            raise ValueError("not yet")
        return HttpResponse(202, (("X-Said", "yes"),), request.body)

    await face.call(face.runtime.on_request, "webhook", "kit", handler)
    failed = [await face.send("POST", "/webhooks/kit", {"X-Kit": "k1"}, b"one") for _ in range(6)]
    assert {(answer.status, answer.header("retry-after")) for answer in failed} == {(503, "5")}
    failing = False
    answers = [await face.send("POST", "/webhooks/kit", {"X-Kit": "k2"}, b"two") for _ in range(2)]
    assert {(one.status, one.header("x-said"), one.body) for one in answers} == {(202, "yes", b"two")}
    assert answers[0].header("x-content-type-options") == "nosniff"
    assert (await face.send("POST", "/webhooks/kit", {"X-Kit": "k2"}, b"three")).status == 409
    assert (await face.send("POST", "/webhooks/kit", {}, b"two")).status == 401
    assert await _kept(face) == 0
