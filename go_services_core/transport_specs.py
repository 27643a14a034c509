"""Records of the transport kinds above plain HTTP, for ``Operation.call``. What carries them is in plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from attrs import Attribute, field, frozen

from .tuples import as_tuple

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""An XML name without a prefix (Namespaces in XML 1.0, NCName), as far as ASCII goes."""


def _not_blank(record: object, attribute: Attribute[Any], value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} must not be blank")


def _above_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be above 0, not {value:g}")


def _not_below_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} must not be below 0, not {value:g}")


@frozen(kw_only=True)
class GraphQL:
    """A GraphQL request; the operation's body parameters are its variables (GraphQL over HTTP, §5).

    The result is what the answer has in ``data``. ``errors`` in an answer of 200 end the call, and their code decides
    how.
    """

    kind: ClassVar[str] = "graphql"
    document: str = field(validator=_not_blank)
    operation_name: str | None = None
    """The operation of the document, where it has several."""
    persisted: Literal["off", "auto", "only"] = "off"
    """``auto`` sends the document's SHA-256 and the document itself only where the server does not know it yet
    (https://www.apollographql.com/docs/apollo-server/performance/apq); ``only`` never sends the document."""
    partial: Literal["error", "keep"] = "error"
    """What becomes of an answer with both data and errors: an error, or a result with ``data`` *and* ``errors``. With
    ``keep`` the result always has both, so that its shape does not depend on luck."""


@frozen(kw_only=True)
class Soap:
    """A SOAP request; the operation's body parameters become the elements of its body.

    A dict becomes an element with children, a list repeats the element, ``None`` is left out; ``@name`` is an attribute
    and ``#text`` the text beside attributes. Names without a prefix are in ``namespace``. Elements stand in the order
    in which the operation declares its parameters, and inside of them in that of the dict.
    """

    kind: ClassVar[str] = "soap"
    body: str = field()
    """Name of the element in the body, such as ``Get_Workers_Request``."""
    namespace: str = field(validator=_not_blank)
    namespaces: Mapping[str, str] = field(factory=dict)
    """Further prefixes that names of parameters may have."""
    attributes: Mapping[str, str] = field(factory=dict)
    """Of the body's element: ``{"version": "v46.0"}``."""
    action: str = ""
    """SOAPAction (SOAP 1.1 §6.1.1), or the media type's ``action`` (RFC 3902)."""
    version: Literal["1.1", "1.2"] = "1.1"
    ws_security: Literal["none", "text", "digest"] = "none"
    """Puts user name and password of the connection, which is a ``basic`` one, into the header as a UsernameToken
    (WSS Username Token Profile 1.1); they are then not sent as ``Authorization``."""
    lists: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Names of elements that are always a list in the result, also when there is one."""
    throttled: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Fault codes, or words of fault texts, that ask to wait, where the vendor says it in a fault (Workday)."""

    @body.validator
    def _is_name(self, attribute: Attribute[str], value: str) -> None:
        if not _NAME.fullmatch(value):
            raise ValueError(f"body must be the name of an element, not {value!r}")

    @namespaces.validator
    def _are_prefixes(self, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
        for prefix in value:
            if not _NAME.fullmatch(prefix) or prefix.lower().startswith("xml") or prefix == "soap":
                raise ValueError(f"namespaces cannot have the prefix {prefix!r}")


@frozen(kw_only=True)
class Bulk:
    """A job at the provider: the operation submits it, then its status is asked for until it ends, then its result.

    Templates are below the API's base URL and may name ``{job}`` and the operation's parameters.
    """

    kind: ClassVar[str] = "bulk"
    job: str | None = "id"
    """Dotted path of the job's id in the answer to the submission; None where ``status_header`` is all there is."""
    status_path: str | None = None
    """Template of the status' path."""
    status_url: str | None = None
    """Dotted path, in the answer to the submission, of the status' URL."""
    status_header: str | None = None
    """Header of that answer that has the status' URL: ``Location``."""
    state: str = "state"
    """Dotted path of the state in the status."""
    done: tuple[str, ...] = field(converter=as_tuple)
    """States of a job that succeeded."""
    failed: tuple[str, ...] = field(converter=as_tuple)
    """States of one that did not. Any other state is one of a job that goes on."""
    reason: str | None = None
    """Dotted path of the text, in the status, of why it failed."""
    result_path: str | None = None
    """Template of the result's path."""
    result_url: str | None = None
    """Dotted path, in the status, of the result's URL. With neither of them the status is the result."""
    format: Literal["json", "ndjson", "csv", "text", "bytes"] = "json"
    """Of the result: ``ndjson`` and ``csv`` give a list of dicts."""
    page_header: str | None = None
    """Header of a result that has the locator of its next page; ``null`` or none ends it (Salesforce)."""
    page_param: str | None = None
    """Query parameter that takes the locator."""
    interval: float = field(default=1.0, validator=_above_zero)
    """Seconds until the status is asked for the first time; they double up to ``longest_interval``."""
    longest_interval: float = field(default=30.0, validator=_above_zero)
    longest: float = field(default=3600.0, validator=_above_zero)
    """Seconds that a call waits, where it has no deadline of its own."""

    def __attrs_post_init__(self) -> None:
        if sum(where is not None for where in (self.status_path, self.status_url, self.status_header)) != 1:
            raise ValueError("exactly one of status_path, status_url and status_header says where the status is")
        if self.result_path is not None and self.result_url is not None:
            raise ValueError("only one of result_path and result_url can say where the result is")
        if (self.page_header is None) != (self.page_param is None):
            raise ValueError("page_header and page_param belong together")
        if self.page_header is not None and self.format not in {"ndjson", "csv"}:
            raise ValueError("only results of the formats ndjson and csv come in pages")


@frozen(kw_only=True)
class Stream:
    """An answer that is read item by item, while it comes: ``Runtime.stream``."""

    kind: ClassVar[str] = "stream"
    format: Literal["ndjson", "sse", "lines"] = "ndjson"
    """``ndjson`` gives what each line holds, ``sse`` gives ``SseEvent`` records, ``lines`` gives text."""
    end: str | None = None
    """Data of the event that ends a stream of ``sse``, such as ``[DONE]``; it is not given."""
    reconnects: int = field(default=0, validator=_not_below_zero)
    """How often in a row a stream of ``sse`` is opened again after it was cut or ended, with ``Last-Event-ID``, without
    an event in between."""


@frozen(kw_only=True)
class File:
    """A file that is uploaded or downloaded: ``Runtime.upload`` and ``Runtime.download``."""

    kind: ClassVar[str] = "file"
    direction: Literal["upload", "download"]
    protocol: Literal["raw", "form", "related", "resumable", "tus"] = "raw"
    """Of an upload. ``raw``: the file is the body. ``form``: multipart/form-data (RFC 7578), in which the body
    parameters are fields. ``related``: multipart/related (RFC 2387) of the body parameters as JSON and the file.
    ``resumable``: a session, and chunks with ``Content-Range``
    (https://developers.google.com/workspace/drive/api/guides/manage-uploads#resumable); the body parameters are sent as
    JSON when the session begins. ``tus``: https://tus.io/protocols/resumable-upload of version 1.0.0; the body
    parameters are its metadata."""
    part: str = "file"
    """Name of the file's part in a form."""
    base_url: str | None = None
    """Instead of the API's, where files have another host, which must be one of the provider's."""
    chunk: int | None = None
    """Bytes of a chunk; None is the plugin's own. Google takes multiples of 262144."""
