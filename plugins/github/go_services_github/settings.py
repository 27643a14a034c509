"""Settings of a GitHub instance."""

from __future__ import annotations

from urllib.parse import urlsplit

from go_services_core.config import setting, settings


@settings
class GitHubSettings:
    """``base_url`` is all that GitHub Enterprise Server needs: ``https://HOST/api/v3``."""

    base_url: str = setting(
        default="https://api.github.com",
        help="Root of the REST API; for GitHub Enterprise Server https://HOST/api/v3",
        example="https://github.example.com/api/v3",
    )

    @property
    def web_url(self) -> str:
        """Where people sign in: github.com for api.github.com, the server itself for GitHub Enterprise Server."""
        parts = urlsplit(self.base_url)
        host = "github.com" if parts.netloc == "api.github.com" else parts.netloc
        return f"{parts.scheme}://{host}"
