"""A person with a browser: follows redirects, keeps cookies, fills in forms."""

from __future__ import annotations

import ssl
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

MOST_HOPS = 20


class Browser:
    """One browser with its own cookies. ``login`` is who sits before it, ``trusted`` whom it believes in TLS."""

    def __init__(self, login: str = "alice", *, trusted: ssl.SSLContext | None = None) -> None:
        self.login = login
        self._trusted = trusted

    async def __aenter__(self) -> Self:
        # unsafe: the jar keeps cookies of IP addresses as well
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), connector=aiohttp.TCPConnector(ssl=self._trusted or True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def consent(self, url: str, *, allow: bool = True) -> str:
        """Sign in, allow or cancel, and give the URL to which the server sends the browser back; it is not opened."""
        back, _ = await self._walk(url, allow=allow)
        assert urlsplit(back).netloc != urlsplit(url).netloc, f"no form at {urlsplit(back).path}"
        return back

    async def approve(self, url: str) -> str:
        """Confirm a code, sign in and allow, and give the server's last page."""
        back, page = await self._walk(url, allow=True)
        assert urlsplit(back).netloc == urlsplit(url).netloc
        return page

    async def abort(self, url: str) -> None:
        """Open the page of a code, and abort where it is to be confirmed."""
        form: dict[str, str] | None = None
        for step in ("code", "confirm"):
            async with self._session.request("POST" if form else "GET", url, data=form) as answer:
                assert answer.status == 200
                read = _Page(await answer.text())
            assert read.action is not None, f"no form to {step}"
            url, form = urljoin(url, read.action), read.fields
        async with self._session.post(url, data={**read.fields, "abort": "yes"}) as answer:
            assert answer.status < 500

    async def _walk(self, url: str, *, allow: bool) -> tuple[str, str]:
        """Until the server sends the browser away, or shows a page without a form."""
        home = urlsplit(url).netloc
        form: dict[str, str] | None = None
        for _ in range(MOST_HOPS):
            method = "GET" if form is None else "POST"
            async with self._session.request(method, url, data=form, allow_redirects=False) as answer:
                location = answer.headers.get("Location")
                page = await answer.text()
            form = None
            if location is not None:
                url = urljoin(url, location)
                if urlsplit(url).netloc != home:
                    return url, ""
                continue
            read = _Page(page)
            assert answer.status == 200, f"{answer.status} at {urlsplit(url).path}: {page[-500:]}"
            if read.action is None:
                return url, page
            if allow or read.fields["prompt"] == "login":
                url, form = urljoin(url, read.action), read.fields
                if "login" in form:
                    form |= {"login": self.login, "password": "any"}
            else:
                url = urljoin(url, read.links["[ Cancel ]"])
        raise AssertionError(f"still at the server after {MOST_HOPS} steps: {urlsplit(url).path}")

    async def open(self, url: str) -> str:
        """The page at the end of the redirects."""
        async with self._session.get(url) as answer:
            assert answer.status == 200
            return await answer.text()


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self._href: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given["action"]
        elif tag == "input":
            self.fields[given["name"]] = given.get("value", "")
        elif tag == "a":
            self._href = given["href"]

    def handle_data(self, data: str) -> None:
        if self._href is not None:
            self.links[data.strip()] = self._href
            self._href = None
