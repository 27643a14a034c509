"""boto3: the only module that imports it, in the thread that needs it first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from attrs import frozen

from go_services_core.errors import ServicesError
from go_services_core.secret import SecretBytes, SecretStr

from . import failures
from .settings import KmsSettings

T = TypeVar("T")
_SPEAKING: Final = ("auth", "credentials", "endpoint", "hooks", "httpsession", "parsers", "tokens", "utils")
"""Modules of botocore that log requests, answers or signatures at the level DEBUG: data keys and session tokens."""
_here = threading.local()


@frozen
class Endpoint:
    """Where one Region's service is asked."""

    region: str | None
    """None leaves it to boto3."""
    url: str | None = None


class Session:
    """The settings as a boto3 session, which keeps the credentials. Its methods block."""

    def __init__(self, settings: KmsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None

    def client(self, service: str, endpoint: Endpoint) -> Any:
        """A new client, to be closed by the caller; safe to be used by many threads (boto3 guide, "Clients").

        Raises:
            Exception: whatever botocore raises; to be called inside :func:`attempt`.
        """
        from boto3.session import Session as Boto3Session  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        settings = self._settings
        with self._lock:  # making sessions and clients is not thread-safe
            if self._session is None:
                self._session = Boto3Session(
                    aws_access_key_id=_revealed(settings.access_key_id),
                    aws_secret_access_key=_revealed(settings.secret_access_key),
                    aws_session_token=_revealed(settings.session_token),
                    profile_name=settings.profile,
                )
            return self._session.client(
                service,
                region_name=endpoint.region,
                endpoint_url=endpoint.url,
                config=Config(
                    connect_timeout=settings.connect_timeout,
                    read_timeout=settings.read_timeout,
                    retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
                    max_pool_connections=settings.max_concurrency,
                ),
            )


def ask(client: Any, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one operation; what is secret in it, or in ``arguments``, is of a type that never prints."""
    given = {name: _revealed(value) for name, value in arguments.items()}
    answer: dict[str, Any] = getattr(client, operation)(**given)
    for name in ("Plaintext", "SecretBinary"):
        if name in answer:
            answer[name] = SecretBytes(answer[name])
    if "SecretString" in answer:
        answer["SecretString"] = SecretStr(answer["SecretString"])
    return answer


def attempt(work: Callable[[], T], *, subject: str, region: str | None) -> T | ServicesError:
    """What ``work`` gives, or its failure as a typed error.

    The error is returned, not raised: what is raised from here would carry botocore's frames, whose locals hold data
    keys and credentials, into every traceback.
    """
    with _quietly():
        try:
            return work()
        except Exception as error:
            return _typed(error, subject, region or "").with_traceback(None)


def _typed(error: Exception, subject: str, region: str) -> ServicesError:
    from botocore import exceptions as b  # type: ignore[import-untyped]

    kind = type(error).__name__
    metadata = {"region": region}
    if isinstance(error, ServicesError):
        return error
    if isinstance(error, b.ClientError):
        told, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        return failures.refused(
            operation=error.operation_name,
            subject=subject,
            region=region,
            code=str(told.get("Code", "")),
            status=int(about.get("HTTPStatusCode", 0)),
            message=str(told.get("Message", "")),
            request_id=about.get("RequestId"),
        )
    if isinstance(error, (b.ConnectTimeoutError, b.ReadTimeoutError)):
        return failures.unavailable(f"AWS does not answer in time: {kind}.", "timeout", metadata)
    if isinstance(error, (b.CredentialRetrievalError, b.TokenRetrievalError, b.MetadataRetrievalError)):
        return failures.unavailable(f"AWS gives no credentials at the moment: {kind}.", "credentials", metadata)
    if isinstance(
        error, (b.NoCredentialsError, b.PartialCredentialsError, b.NoAuthTokenError, b.SSOError, b.LoginError)
    ):
        return failures.no_credentials(kind)
    if isinstance(error, (b.HTTPClientError, b.EndpointConnectionError)):
        return failures.unavailable(f"AWS cannot be reached: {kind}.", "connection", metadata)
    if isinstance(error, (b.BaseEndpointResolverError, b.ProfileNotFound, b.ConfigParseError, b.ConfigNotFound)):
        return failures.misconfigured(kind)
    if isinstance(error, (b.InvalidConfigError, b.EndpointProviderError, b.InvalidRegionError)):
        return failures.misconfigured(kind)
    return failures.unavailable(f"AWS was not asked, or its answer cannot be read: {kind}.", "answer", metadata)


def _revealed(value: Any) -> Any:
    return value.reveal() if isinstance(value, (SecretStr, SecretBytes)) else value


class _Quiet(logging.Filter):
    """Drops botocore's records of the threads that are inside :func:`attempt`; those of other users of it pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_here, "quiet", False)


_quiet: Final = _Quiet()


@contextmanager
def _quietly() -> Iterator[None]:
    for name in _SPEAKING:
        logging.getLogger(f"botocore.{name}").addFilter(_quiet)  # the same filter is added once
    _here.quiet = True
    try:
        yield
    finally:
        _here.quiet = False
