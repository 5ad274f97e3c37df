"""What another server answers arrives as it was sent."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from search.views.forwarding import Forwarding

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LARGE = bytes(range(256)) * 2000


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(application: WSGIApplication) -> Iterator[int]:
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def behind(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with what it was asked."""
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "image/png"), ("X-Mine", "yes")])
        return [LARGE]
    if environ["PATH_INFO"].encode("latin-1").decode() != "/an ä":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode("latin-1")]
    sent = [environ["REQUEST_METHOD"], environ["QUERY_STRING"], environ["CONTENT_TYPE"], environ["HTTP_X_MINE"]]
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("201 Made", [("Content-Type", "text/plain")])
    return ["|".join(sent).encode(), b"|", body]


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def test_requests_and_answers_go_through_unchanged() -> None:
    with serving(behind) as there, serving(Forwarding(there)) as here:
        answer = ask(here, "POST", "/an%20%C3%A4?a=%20b&a=2", b"\x00body", X_Mine="me", Content_Type="application/json")
        assert (answer.status, answer.reason) == (201, "Made")
        assert answer.read() == b"POST|a=%20b&a=2|application/json|me|\x00body"
        answer = ask(here, "GET", "/large")
        assert (answer.read(), answer.headers["Content-Type"], answer.headers["X-Mine"]) == (LARGE, "image/png", "yes")
        missing = ask(here, "GET", "/mlflow/none")
        assert (missing.status, missing.read()) == (404, b"/mlflow/none")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_is_gone_is_said(method: str) -> None:
    with serving(behind) as there:
        pass
    with serving(Forwarding(there)) as here:
        answer = ask(here, method, "/large", b"" if method == "POST" else None)
        assert answer.status == 502
        assert b"does not answer" in answer.read()
