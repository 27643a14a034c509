"""How the sandbox says no: one exception, one JSON shape (RFC 6749 §5.2), for OAuth endpoints and API alike."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web


class Refused(Exception):
    """The request is refused.

    ``error`` is the code of RFC 6749 §5.2, RFC 6750 §3.1, RFC 7009 §2.2.1, or for what no RFC names, the API's own.
    """

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = dict(headers or {})

    def answer(self) -> web.Response:
        """``{"error": …, "error_description": …}`` with the status and headers of the refusal."""
        fields = {"error": self.error, "error_description": self.description}
        return web.json_response(fields, status=self.status, headers=self.headers)
