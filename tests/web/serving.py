"""A WSGI application under a real server, in threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """Says nothing, and one request a connection, so that closing waits for nobody."""

    def log(self, *_: Any) -> None: ...


@contextmanager
def serving_wsgi(app: Any, listening: Any) -> Iterator[None]:
    """``app`` on a socket until the end of the block."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler, fd=listening.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
