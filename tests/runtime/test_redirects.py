"""Redirects of calls: where they lead, what goes along, and how they end. P31, P34, P35."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
from attrs import define

from go_services_core import ApiKey, ApiSpec, Operation, Param, PersonalToken, ProviderSpec, Scope
from go_services_core.auth_specs import Hmac
from go_services_core.call_specs import BreakerPolicy, RetryPolicy
from go_services_core.errors import EgressDenied, OutcomeUnknown, ProviderError, RedirectRefused, RequestTimeout
from go_services_core.http import ClientCertificate, HttpRequest, HttpResponse
from go_services_core.providers import ProviderInstance
from go_services_core.runtime.redirects import Chain
from go_services_core.secret import SecretStr
from go_services_core.testing.rawserver import RawServer, http_answer, raw_server

WHO = Scope("user", "u1")
SECRET = "s3cr3t-of-the-connection"
ONCE = RetryPolicy(attempts=1)
DONE = http_answer(200, b'{"done": true}', (("Content-Type", "application/json"),))
OPERATIONS = (
    Operation("get", "GET", "/a"),
    Operation("head", "HEAD", "/a"),
    Operation("download", "GET", "/a", answer="bytes", redirects="any", params=Param("X-Account", "header")),
    Operation("export", "POST", "/a", redirects="any", params=Param("name", "body")),
    Operation("stay", "GET", "/a", redirects="none"),
    Operation("create", "POST", "/a", params=Param("name", "body")),
    Operation("put", "PUT", "/a", params=Param("name", "body")),
)


@define
class Site:
    """A provider's API on two hosts of its own, and somebody else's server; the guard lets through to all of them."""

    runtime: object
    connection_id: str
    own: RawServer
    second: RawServer
    foreign: RawServer

    async def call(self, operation, params=None, **options):
        return await self.runtime.execute(self.connection_id, operation, params, **options)


def moved(status, location):
    return http_answer(status, b"", (("Location", location),))


@pytest.fixture
def site(app):
    """Opens a site whose connections authenticate as ``auth`` says."""

    @asynccontextmanager
    async def opened(auth=None, *, field="token", allow=True, settings=None, **api):
        async with AsyncExitStack() as stack:
            own, second, foreign = [await stack.enter_async_context(raw_server(DONE)) for _ in range(3)]
            app.providers.specs["acme"] = ProviderSpec(
                id="acme",
                name="Acme",
                auth=auth or PersonalToken(),
                api=ApiSpec(
                    base_url=own.url(""),
                    hosts=(f"127.0.0.1:{second.port}",),
                    headers={"X-Api-Version": "7", "X-App-Secret": "s3cr3t-of-the-app"},
                    **api,
                ),
                operations=OPERATIONS,
            )
            entries = [f"127.0.0.1:{server.port}" for server in (own, second, foreign) if allow or server is own]
            runtime = await stack.enter_async_context(
                app.open(settings={"egress.allow": {"acme": entries}, **(settings or {})})
            )
            connection = await runtime.establish("acme", scope=WHO, fields={field: SECRET})
            yield Site(runtime, connection.id, own, second, foreign)

    return opened


def headers(server, index=-1):
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in server.lines(index)[1:])}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", ["get", "head"])
async def test_get_and_head_are_followed_on_the_providers_hosts_with_the_credential(site, status, operation):
    async with site() as at:
        at.own.answers = (moved(status, "b?x=1#part"), moved(status, at.second.url("/c")))
        at.second.answers = (DONE if operation == "get" else http_answer(200),)
        result = await at.call(operation)
        assert result.status == 200
        assert result.attempts == 1
        method = operation.upper()
        assert at.own.lines(1)[0] == f"{method} /b?x=1 HTTP/1.1"
        assert at.second.lines()[0] == f"{method} /c HTTP/1.1"
        for server in (at.own, at.second):
            assert headers(server)["authorization"] == f"Bearer {SECRET}"
            assert headers(server)["x-api-version"] == "7"
        assert headers(at.second)["host"] == f"127.0.0.1:{at.second.port}"


async def test_signature_is_made_anew_for_each_url(site):
    """P34: a signed request is signed again, not sent on."""
    async with site(Hmac(signed=("method", "target", "timestamp")), field="secret") as at:
        at.own.answers = (moved(302, at.second.url("/b?x=1")),)
        await at.call("get")
        signatures = []
        for server in (at.own, at.second):
            sent = headers(server)
            target = server.lines()[0].split()[1]
            text = f"GET\n{target}\n{sent['x-timestamp']}"
            assert sent["x-signature"] == hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
            signatures.append(sent["x-signature"])
        assert len(set(signatures)) == 2


@pytest.mark.parametrize("target", ["/b?page=2", "/b?page=2&api_key=echoed", "/b?page=2&api_key=" + SECRET])
async def test_key_in_the_query_is_put_on_each_url_once(site, target):
    async with site(ApiKey(header=None, query="api_key"), field="key") as at:
        at.own.answers = (moved(302, target), DONE)
        await at.call("get")
        assert at.own.lines(1)[0] == f"GET /b?page=2&api_key={SECRET} HTTP/1.1"


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("operation", ["create", "put"])
async def test_307_and_308_keep_method_and_body_on_the_providers_hosts(site, status, operation):
    async with site() as at:
        at.own.answers = (moved(status, at.second.url("/b")),)
        await at.call(operation, {"name": "x"})
        assert at.second.lines()[0].split()[:2] == [{"create": "POST", "put": "PUT"}[operation], "/b"]
        assert at.second.body() == at.own.body() == b'{"name":"x"}'
        assert headers(at.second)["content-type"] == "application/json"


async def test_303_turns_a_post_into_a_get_without_its_body(site):
    async with site() as at:
        at.own.answers = (moved(303, "/result"), DONE)
        assert (await at.call("create", {"name": "x"})).data == {"done": True}
        assert at.own.lines(1)[0] == "GET /result HTTP/1.1"
        assert at.own.body(1) == b""
        assert not any(name.startswith("content-") for name in headers(at.own, 1))


BUSY = http_answer(503, b"", (("Retry-After", "0"),))


@pytest.mark.parametrize("answer", [http_answer(429), BUSY, http_answer(502)])
async def test_post_that_led_to_its_answer_is_not_made_again_when_that_fails(site, answer):
    async with site() as at:
        at.own.answers = (moved(303, "/result"), answer)
        with pytest.raises(OutcomeUnknown):
            await at.call("create", {"name": "x"})
        assert [request.split(None, 1)[0] for request in at.own.requests] == [b"POST", b"GET"]


async def test_post_that_led_to_a_host_without_an_answer_is_not_made_again(site):
    async def hang_up(reader, writer):
        """What asks for TLS gets no connection, and nothing was sent."""

    async with site() as at:
        at.second.talk = hang_up
        at.own.answers = (moved(303, f"https://127.0.0.1:{at.second.port}/result"),)
        with pytest.raises(OutcomeUnknown):
            await at.call("create", {"name": "x"})
        assert len(at.own.requests) == 1


@pytest.mark.parametrize("last", [http_answer(404), moved(303, "http://127.0.0.1:9/elsewhere"), moved(303, "/result")])
async def test_key_of_a_post_that_led_to_its_answer_does_not_make_it_once_more(site, last):
    async with site(idempotency_header=None) as at:
        at.own.answers = (moved(303, "/result"), last)
        with pytest.raises((ProviderError, EgressDenied)):
            await at.call("create", {"name": "x"}, idempotency_key="once")
        with pytest.raises(OutcomeUnknown):
            await at.call("create", {"name": "x"}, idempotency_key="once")
        assert [request.split(None, 1)[0] for request in at.own.requests] == [b"POST", b"GET"]


@pytest.mark.parametrize("status", [301, 302])
async def test_301_and_302_of_a_post_are_refused_and_name_where_without_the_query(site, status):
    async with site() as at:
        at.own.answers = (moved(status, "/elsewhere?token=hunter2"),)
        with pytest.raises(RedirectRefused) as caught:
            await at.call("create", {"name": "x"})
        assert f"127.0.0.1:{at.own.port}/elsewhere" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert caught.value.upstream_status == status
        assert caught.value.code == "SERVICE_REDIRECT_REFUSED"
        assert len(at.own.requests) == 1


@pytest.mark.parametrize(
    ("operation", "status"),
    [("get", 301), ("get", 302), ("get", 303), ("get", 307), ("get", 308), ("create", 303), ("create", 307)],
)
async def test_another_host_gets_nothing_by_default(site, operation, status):
    """P34, P35: the guard lets through to it, the provider did not declare it."""
    async with site() as at:
        at.own.answers = (moved(status, at.foreign.url("/stolen?q=hunter2")),)
        with pytest.raises(EgressDenied, match=f"127.0.0.1:{at.foreign.port}/stolen") as caught:
            await at.call(operation, {"name": "x"} if operation == "create" else None)
        assert caught.value.sent
        assert "hunter2" not in str(caught.value)
        assert 'redirects = "any"' in caught.value.hint
        assert at.foreign.connections == 0


@pytest.mark.parametrize(("operation", "status"), [("download", 302), ("export", 303)])
async def test_download_follows_to_another_host_with_nothing_of_the_provider(site, operation, status):
    """P34: neither Authorization nor the API's and the caller's own headers, nor a body."""
    async with site() as at:
        at.own.answers = (moved(status, at.foreign.url("/asset?signature=1")),)
        at.foreign.answers = (http_answer(200, b'"content"'),)
        params = {"X-Account": "acct_1"} if operation == "download" else {"name": "x"}
        assert (await at.call(operation, params)).status == 200
        assert at.foreign.lines()[0] == "GET /asset?signature=1 HTTP/1.1"
        assert set(headers(at.foreign)) == {"host", "accept", "accept-encoding", "user-agent"}
        assert b"s3cr3t" not in b"".join(at.foreign.requests)
        assert at.foreign.body() == b""


async def test_method_other_than_get_never_goes_to_another_host(site):
    async with site() as at:
        at.own.answers = (moved(307, at.foreign.url("/b")),)
        with pytest.raises(EgressDenied):
            await at.call("export", {"name": "x"})
        assert at.foreign.connections == 0


async def test_who_left_the_providers_hosts_comes_back_without_the_credential(site):
    """Otherwise another host could have the credential sent to any path of the provider."""
    async with site() as at:
        at.own.answers = (moved(302, at.foreign.url("/b")), DONE)
        at.foreign.answers = (moved(302, at.own.url("/c")),)
        await at.call("download")
        assert "authorization" not in headers(at.own, 1)


async def test_url_on_another_host_with_the_credential_in_it_is_refused(site):
    async with site() as at:
        at.own.answers = (moved(302, at.foreign.url(f"/b?key={SECRET.replace('-', '%2D')}")),)
        with pytest.raises(EgressDenied, match="has the credential"):
            await at.call("download")
        assert at.foreign.connections == 0


async def test_another_hosts_401_renews_nothing_and_ends_the_call(site):
    async with site() as at:
        at.own.answers = (moved(302, at.foreign.url("/b")),)
        at.foreign.answers = (http_answer(401),)
        with pytest.raises(ProviderError, match="wants a credential") as caught:
            await at.call("download")
        assert caught.value.category == "external"
        assert len(at.own.requests) == len(at.foreign.requests) == 1


async def test_host_to_which_a_redirect_leads_does_not_open_the_circuit_of_the_provider(site):
    async with site(breaker=BreakerPolicy(failures=2)) as at:
        at.own.answers = (moved(302, at.foreign.url("/file")),)
        at.foreign.answers = (http_answer(500),)
        for _ in range(3):
            with pytest.raises(ProviderError):
                await at.call("download", retry=ONCE)
        at.own.answers = (DONE,)
        assert (await at.call("get")).status == 200


async def test_guard_sees_every_hop(site):
    """P31: a host that the provider declares is still one that the guard must let through."""
    async with site(allow=False) as at:
        for operation, target in (("get", at.second), ("download", at.foreign)):
            at.own.answers = (moved(302, target.url("/b")),)
            with pytest.raises(EgressDenied, match=r"may not reach 127\.0\.0\.1"):
                await at.call(operation)
            assert target.connections == 0


@pytest.mark.parametrize("location", ["https://user:hunter2@127.0.0.1/", "http://169.254.169.254/latest", "ftp://x/"])
async def test_hop_to_a_disguised_or_private_target_is_denied(site, location):
    async with site() as at:
        at.own.answers = (moved(302, location),)
        for operation in ("get", "download"):
            with pytest.raises(EgressDenied) as caught:
                await at.call(operation)
            assert "hunter2" not in str(caught.value)


async def test_circle_is_found_when_it_closes(site):
    async with site() as at:
        at.own.answers = (moved(302, "/b"), moved(302, "/a"))
        with pytest.raises(RedirectRefused, match="came from"):
            await at.call("get")
        assert len(at.own.requests) == 2


async def test_redirects_end_after_five_hops(site):
    async with site() as at:
        at.own.answers = (*(moved(302, f"/{n}") for n in range(5)), DONE)
        assert (await at.call("get")).status == 200
        at.own.requests.clear()
        at.own.answers = tuple(moved(302, f"/{n}") for n in range(9))
        with pytest.raises(RedirectRefused, match="5 redirects"):
            await at.call("get")
        assert len(at.own.requests) == 6


@pytest.mark.parametrize("location", ["http://[::1", "/a b", "/\u00e4", "https:///x", "\\\\evil.example\\"])
async def test_location_that_is_no_url_is_a_typed_error_without_it(site, location):
    async with site() as at:
        at.own.answers = (moved(302, location),)
        with pytest.raises(RedirectRefused, match="not a URL") as caught:
            await at.call("get")
        assert location not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "answer", "says"),
    [
        ("stay", moved(302, "/b"), "redirects"),
        ("get", http_answer(302), "redirects"),
        ("get", moved(304, "/b"), "nothing has changed"),
    ],
)
async def test_what_is_not_to_be_followed_is_the_providers_error(site, operation, answer, says):
    async with site() as at:
        at.own.answers = (answer, DONE)
        with pytest.raises(ProviderError, match=says) as caught:
            await at.call(operation)
        assert not isinstance(caught.value, RedirectRefused)
        assert len(at.own.requests) == 1


async def test_all_hops_together_have_the_requests_time(app, site):
    """Each hop answers at once, and the clock says that it took its time."""
    async with site() as at:

        async def slow(request, writer):
            app.clock.advance(11.0)
            writer.write(moved(302, f"/{len(at.own.requests)}"))

        at.own.answers = (slow,)
        with pytest.raises(RequestTimeout, match="redirected until") as caught:
            await at.call("get", retry=ONCE)
        assert caught.value.sent
        assert len(at.own.requests) == 3


async def test_hop_that_hangs_ends_in_time(site):
    async def hang(request, writer):
        await asyncio.Event().wait()

    async with site(settings={"runtime.default_timeout": 0.3}) as at:
        at.own.answers = (moved(302, "/b"), hang)
        for options in ({}, {"deadline": 0.2}):
            at.own.requests.clear()
            with pytest.raises(RequestTimeout):
                async with asyncio.timeout(10):
                    await at.call("get", retry=ONCE, **options)
            assert len(at.own.requests) == 2


def test_client_certificate_does_not_go_along_to_another_host() -> None:
    """P34: whoever is asked for it in TLS would see who the customer is."""
    spec = ProviderSpec(id="acme", name="Acme", auth=PersonalToken(), api=ApiSpec(base_url="https://api.acme.example"))
    certificate = ClientCertificate(certificate="c", private_key=SecretStr("k"))
    headers = (("Cookie", "s=1"), ("Accept", "*/*"))
    request = HttpRequest("GET", "https://api.acme.example/a", headers, client_certificate=certificate)
    chain = Chain(instance_of(spec), Operation("x", "GET", "/a", redirects="any"), request, SecretStr(SECRET))
    hop = chain.follow(HttpResponse(302, (("Location", "https://cdn.example/b"),)))
    assert hop.own is False
    assert hop.request.client_certificate is None
    assert hop.request.headers == (("Accept", "*/*"),)
    assert request.client_certificate is not None


def test_https_is_not_left_for_http() -> None:
    spec = ProviderSpec(id="acme", name="Acme", auth=PersonalToken(), api=ApiSpec(base_url="https://api.acme.example"))
    request = HttpRequest("GET", "https://api.acme.example/a")
    chain = Chain(instance_of(spec), Operation("x", "GET", "/a"), request, SecretStr(SECRET))
    with pytest.raises(EgressDenied):
        chain.follow(HttpResponse(302, (("Location", "http://api.acme.example/a"),)))


def instance_of(spec: ProviderSpec) -> ProviderInstance:
    host = urlsplit(spec.api.base_url).netloc
    return ProviderInstance(id="acme", spec=spec, plugin_provider="acme", hosts=(host,), default_auth="pat")
