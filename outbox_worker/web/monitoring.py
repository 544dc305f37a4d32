"""Metrics and health over HTTP, in threads beside the relay's loop.

GET /metrics        for Prometheus
GET /health/live    200 while the loop makes progress, else 503: restart it
GET /health/ready   200 while it can deliver (the database is there, the schema is ours), else 503

The standard library serves it, as it does for prometheus_client itself: aiohttp, which has POST /identify, would take
every worker a tenth of a second and ten megabytes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from selectors import EVENT_READ, DefaultSelector
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from outbox_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

SILENT_S_MAX = 10.0  # a connection that says nothing for so long is closed, and its thread ends
METHODS = ("GET", "HEAD")
PLAIN = "text/plain"

_log = structlog.get_logger("outbox_worker.web")


class MonitoringServer:
    """Serves from `start` to `stop`. `live` and `ready` are asked for each request and must not wait."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        live: Callable[[], bool],
        ready: Callable[[], bool],
        *,
        setting: str = "[web] port",
    ) -> None:
        self._host = host
        self._port = port
        self._setting = setting  # by which another port is had
        self._registry = registry
        self._checks = {"/health/live": live, "/health/ready": ready}
        self._listeners: list[_Listener] = []
        self._heard, self._told = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="monitoring", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one also where 0 was asked for."""
        host, port = self._listeners[0].socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Listen, at each address that the host has. Raises ConfigurationError when one cannot be had."""
        try:
            found = socket.getaddrinfo(self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in found:
                self._listeners.append(_Listener(family, address, self._answer))
        except OSError as error:
            self._close()
            raise ConfigurationError(
                f"cannot listen at {self._host}:{self._port} for metrics and health: {error.strerror}. "
                f"Set another {self._setting}, or stop what listens there."
            ) from None
        self._thread.start()
        return self

    def stop(self) -> None:
        """Listen no more. What is being answered at this moment is not waited for."""
        os.write(self._told, b".")
        self._thread.join()
        self._close()

    def _serve(self) -> None:
        with DefaultSelector() as ready:
            ready.register(self._heard, EVENT_READ)
            for listener in self._listeners:
                ready.register(listener, EVENT_READ, listener)
            while True:
                for key, _ in ready.select():
                    if key.data is None:
                        return
                    key.data.handle_request()

    def _close(self) -> None:
        for listener in self._listeners:
            listener.server_close()
        os.close(self._heard)
        os.close(self._told)

    def _answer(self, request: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request, as WSGI has it."""
        method = request["REQUEST_METHOD"]
        try:
            status, kind, body = self._said(method, request["PATH_INFO"], request.get("HTTP_ACCEPT", ""))
        except Exception:  # the standard library would write its trace back past the log
            _log.exception("metrics or health could not be told")
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, PLAIN, b""
        start(f"{status.value} {status.phrase}", [("Content-Type", kind), ("Allow", ", ".join(METHODS))])
        return [] if method == "HEAD" else [body]

    def _said(self, method: str, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        if method not in METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b""
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return HTTPStatus.OK, kind, encode(self._registry)
        if path not in self._checks:
            return HTTPStatus.NOT_FOUND, PLAIN, b"/metrics, /health/live, /health/ready\n"
        well = self._checks[path]()
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", json.dumps({path.rpartition("/")[2]: well}).encode()


class _Listener(ThreadingMixIn, WSGIServer):
    """One address. Each request has a thread, so that a slow one is in nobody's way."""

    daemon_threads = True
    block_on_close = False
    timeout = 0  # of waiting for a caller; the selector has seen one

    def __init__(self, family: int, address: Any, answer: Callable[..., Iterable[bytes]]) -> None:
        self.address_family = family
        super().__init__(address, _Handler)
        self.set_app(answer)

    def server_bind(self) -> None:
        """Bind, without asking a name server for our full name: that may take long."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 may be another's
        TCPServer.server_bind(self)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = host
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a caller has gone away in the middle, or was silent for too long."""


class _Handler(WSGIRequestHandler):
    timeout = SILENT_S_MAX

    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each request."""
