"""Who chooses the redirect URI, and what it may be."""

from __future__ import annotations

import pytest

from go_services_core import Scope, hookimpl
from go_services_core.errors import BadInput, PluginError
from go_services_core.ownership import CallbackRequest

from .attacks import refused

WHO = Scope("user", "u1")
HERE = "http://127.0.0.1/callback"


class Chooser:
    """A plugin that answers as it is told, in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    @hookimpl
    def gs_callback_url(self, provider_id):
        return self.choose if provider_id == "sandbox" else None

    def choose(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_resolver_is_told_who_consents_to_what_and_whether_again(app):
    chooser = Chooser(HERE, HERE)
    async with app.open(plugins={"chooser": chooser}) as runtime:
        made = await app.connect(runtime, redirect_uri=None, grants=("items.read",))
        await app.connect(runtime, redirect_uri=None, connection_id=made.id)
    defaults = ("items.read", "items.write")
    assert chooser.asked == [
        CallbackRequest(provider_id="sandbox", scope=WHO, requested=("items.read",)),
        CallbackRequest(provider_id="sandbox", scope=WHO, requested=defaults, connection_id=made.id),
    ]
    assert [(one.flow, one.reconsent) for one in chooser.asked] == [("connect", False), ("reconsent", True)]


async def test_resolver_is_not_asked_where_the_caller_or_the_table_says(app):
    chooser = Chooser()
    table = {**app.settings["providers.sandbox"], "redirect_uri": HERE}
    async with app.open(plugins={"chooser": chooser}) as runtime:
        await app.connect(runtime, redirect_uri=HERE)
    async with app.open(plugins={"chooser": chooser}, settings={"providers.sandbox": table}) as runtime:
        await app.connect(runtime, redirect_uri=None)
    assert chooser.asked == []


@pytest.mark.parametrize("blank", ["", "  ", None])
async def test_blank_answer_for_a_consent_again_is_asked_once_more_as_for_a_first_one(app, blank):
    chooser = Chooser(blank, HERE)
    async with app.open(plugins={"chooser": chooser}) as runtime:
        made = await app.connect(runtime)
        await app.connect(runtime, redirect_uri=None, connection_id=made.id)
    assert [one.flow for one in chooser.asked] == ["reconsent", "connect"]


@pytest.mark.parametrize("blank", ["", "  ", None])
async def test_blank_answer_leaves_it_to_the_configuration(app, blank):
    chooser = Chooser(blank, blank)
    plugins = {"chooser": chooser}
    async with app.open(plugins=plugins, settings={"runtime.callback_url": HERE}) as runtime:
        assert (await app.connect(runtime, redirect_uri=None)).status == "active"
    async with app.open(plugins=plugins) as runtime:
        error = await refused(app.begin(runtime, redirect_uri=None), "SERVICE_BAD_INPUT")
        assert error.field == "redirect_uri"


async def test_answer_is_trimmed(app):
    async with app.open(plugins={"chooser": Chooser(f"  {HERE}\n")}) as runtime:
        assert (await app.connect(runtime, redirect_uri=None)).status == "active"


@pytest.mark.parametrize("answer", [RuntimeError("s3cret"), KeyError("s3cret"), BadInput("s3cret"), 42, b"http://x"])
async def test_resolver_that_fails_ends_the_call_and_is_named(app, answer):
    settings = {"runtime.callback_url": HERE}
    async with app.open(plugins={"chooser": Chooser(answer)}, settings=settings) as runtime:
        with pytest.raises(PluginError) as caught:
            await app.begin(runtime, redirect_uri=None)
        assert (caught.value.plugin, caught.value.field) == ("chooser", "redirect_uri")
        assert "s3cret" not in str(caught.value)
        assert app.rows("SELECT count(*) FROM service_oauth_attempts") == [(0,)]


BAD = [
    "callback",
    "/callback",
    "//app.example/cb",
    "https:///cb",
    "https://app.example/cb#top",
    "https://app.example/cb#",
    "https://user@app.example/cb",
    "https://app.example:0/cb",
    "https://app.example:99999/cb",
    "https://[::1/cb",
    "https://app.example/c b",
    "https://app.example/cb\r\nX: y",
    "https://app.example\\@evil.example/cb",
    "https://app.exämple/cb",
    "http://app.example/cb",
    "http://10.0.0.1/cb",
    "http://127.0.0.2/cb",
    "http://127.0.0.1.nip.example/cb",
    "http://localhost.evil.example/cb",
    "javascript:alert(1)",
    "com.example.app:/cb",
    "ftp://app.example/cb",
]
GOOD = [
    "https://app.example/cb",
    "https://app.example:8443/cb?tenant=1",
    "HTTPS://app.example",
    "https://[2001:db8::1]/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:8123/cb",
    "http://[::1]:8123/cb",
    "http://localhost:8000/cb",
]


@pytest.mark.parametrize("uri", BAD)
async def test_what_cannot_be_a_redirect_uri_is_refused_from_every_source(app, uri):
    """RFC 6749 §3.1.2; RFC 8252 §7.3 and §8.3."""
    table = {**app.settings["providers.sandbox"], "redirect_uri": uri}
    async with app.open(settings={"runtime.callback_url": uri}, plugins={"chooser": Chooser(uri, "")}) as runtime:
        for given in (uri, None, None):  # the caller's, the plugin's, the configuration's
            error = await refused(app.begin(runtime, redirect_uri=given), "SERVICE_BAD_INPUT")
            assert error.field == "redirect_uri"
        async with app.open(settings={"providers.sandbox": table}) as other:
            await refused(app.begin(other, redirect_uri=None), "SERVICE_BAD_INPUT")
        assert app.rows("SELECT count(*) FROM service_oauth_attempts") == [(0,)]


@pytest.mark.parametrize("uri", GOOD)
async def test_usable_redirect_uri_is_kept_as_it_was_written(app, runtime, uri):
    start = await runtime.connect("sandbox", scope=WHO, redirect_uri=uri)
    assert app.rows("SELECT redirect_uri FROM service_oauth_attempts") == [(uri,)]
    assert start.url
