"""Metrics and health over HTTP, in a thread of its own beside the relay's loop.

GET /metrics        for Prometheus
GET /health/live    200 while the loop makes progress, else 503: restart it
GET /health/ready   200 while it can deliver (the database is there, the schema is ours), else 503
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from outbox_worker.errors import ConfigurationError


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
        self._checks = {"live": live, "ready": ready}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitoring", daemon=True)
        self._runner = web.AppRunner(self._application(), access_log=None)

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one also where 0 was asked for."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Listen. Raises ConfigurationError when the address cannot be had."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError as error:
            self.stop()
            raise ConfigurationError(
                f"cannot listen at {self._host}:{self._port} for metrics and health: {error.strerror}. "
                f"Set another {self._setting}, or stop what listens there."
            ) from None
        return self

    def stop(self) -> None:
        """Listen no more."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/health/{check:live|ready}", self._health)
        return application

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # The backlog is read from the database here: not in this loop, which also answers health.
        body = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _health(self, request: web.Request) -> web.Response:
        check = request.match_info["check"]
        well = self._checks[check]()
        return web.json_response({check: well}, status=200 if well else 503)
