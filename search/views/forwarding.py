"""A part of a WSGI application that another server on this machine answers."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote
from wsgiref.util import is_hop_by_hop

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["Forwarding"]

PATIENCE = 300.0  # seconds for an answer
PIECE = 1 << 16  # bytes


class Forwarding:
    """Hands requests on to a server on this machine, path and all, and its answers back.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; with 502 if the server does not."""
        path = quote(environ.get("PATH_INFO", "/").encode("latin-1"))
        query = environ.get("QUERY_STRING", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(environ["REQUEST_METHOD"], f"{path}?{query}", body, _headers(environ))
            answer = connection.getresponse()
        except OSError as error:
            connection.close()
            start_response("502 Bad Gateway", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"the server behind this page does not answer: {error}".encode()]
        kept = [(name, value) for name, value in answer.getheaders() if not is_hop_by_hop(name)]
        start_response(f"{answer.status} {answer.reason}", kept)
        return _pieces(connection, answer)


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    """The request's own, as a browser has sent them."""
    sent = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    if content := environ.get("CONTENT_TYPE"):
        sent["CONTENT-TYPE"] = content
    return {name: value for name, value in sent.items() if not is_hop_by_hop(name)}


def _pieces(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read(PIECE):
            yield piece
    finally:
        connection.close()
