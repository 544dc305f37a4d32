"""The sandbox on a port: its connections, a listening socket that can be closed for a while, a thread to run it in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from aiohttp import web

from outbox_worker.demo.sandbox.answers import receive
from outbox_worker.demo.sandbox.connection import Connection
from outbox_worker.demo.sandbox.control import PREFIX, control, put_faults
from outbox_worker.demo.sandbox.sandbox import Sandbox, Settings
from outbox_worker.demo.sandbox.state import State
from outbox_worker.demo.sandbox.visit import Visit, respond
from outbox_worker.errors import ConfigurationError

Result = TypeVar("Result")
STOP_S_MAX = 0.1  # for requests that are being answered; those that hang are cut off
BACKLOG = 1_024


class Receiver(web.Server):
    """aiohttp's low-level server: it tells of connections that are made and lost, which its applications do not."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(self._serve, access_log=None, keepalive_timeout=sandbox.settings.keep_alive_s)
        self._sandbox = sandbox
        self._live: dict[web.RequestHandler, Connection] = {}
        self._connection_count = 0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._connection_count += 1
        self._live[handler] = Connection(self._connection_count, handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._live.pop(handler).lost()

    def close_idle(self) -> None:
        """End all connections: idle ones now, the others when they have been answered."""
        for connection in list(self._live.values()):
            connection.close_when_idle()

    async def stop(self) -> None:
        """End all connections and wait until they have ended."""
        ends = [connection.gone for connection in self._live.values()]
        await self.shutdown(STOP_S_MAX)
        if ends:
            await asyncio.wait(ends)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = self._live[request.protocol]
        connection.request_count += 1
        connection.busy = True
        try:
            if request.path.startswith(PREFIX):
                body = await request.content.read()
                return respond(control(self._sandbox, request.method, request.path, request.query, body))
            return await receive(Visit(self._sandbox, connection, request))
        finally:
            connection.busy = False


class Listener:
    """The port. It stays ours while nobody listens on it: a second, silent socket keeps it from being given away."""

    def __init__(self, receiver: Receiver, host: str, port: int) -> None:
        """Bind; raises ConfigurationError when the address cannot be had."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._family = found[0]
            self._reservation = self._bound(found[4])
        except OSError as error:
            raise ConfigurationError(
                f"the sandbox cannot have port {port} at {host}: {error.strerror}; --port 0 takes a free one"
            ) from error
        self._receiver = receiver
        self._server: asyncio.Server | None = None
        self._open_at = 0.0  # on the loop's clock
        self._opening: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port, also when a free one was asked for."""
        return int(self._reservation.getsockname()[1])

    async def open(self) -> None:
        """Listen. Raises ConfigurationError when somebody else does."""
        listening = self._bound(self._reservation.getsockname())
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._receiver, sock=listening, backlog=BACKLOG
            )
        except OSError as error:
            listening.close()
            raise ConfigurationError(f"port {self.port} is taken; --port 0 takes a free one") from error

    def refuse_for(self, seconds: float) -> None:
        """Close the port. What is being answered is answered, other connections end; overlapping outages become one."""
        loop = asyncio.get_running_loop()
        self._open_at = max(self._open_at, loop.time() + seconds)
        if self._server is not None:
            self._server.close()
            self._server = None
            self._opening = loop.create_task(self._reopen())
        self._receiver.close_idle()

    async def close(self) -> None:
        """Stop listening for good."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._server is not None:
            self._server.close()
        self._reservation.close()

    async def _reopen(self) -> None:
        while (left_s := self._open_at - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)  # and look again: another outage may have moved the end
        await self.open()

    def _bound(self, address: Any) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound


@asynccontextmanager
async def listening(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve a sandbox inside the block; yields its base URL. Closes the sandbox at the end."""
    try:
        receiver = Receiver(sandbox)
        listener = Listener(receiver, sandbox.settings.host, sandbox.settings.port)
        sandbox.refuse_for = listener.refuse_for
        try:
            await listener.open()
            host = sandbox.settings.host
            yield f"http://{f'[{host}]' if ':' in host else host}:{listener.port}"
        finally:
            await listener.close()
            await receiver.stop()
    finally:
        sandbox.close()


class SandboxServer:
    """A sandbox in a thread with an event loop of its own, for tests in the same process.

    with SandboxServer(Settings(any_client=True), ["add_purchase:reset_after:count=1"]) as server:
        requests.get(server.url + "/sandbox/summary")
    """

    def __init__(self, settings: Settings | None = None, faults: Iterable[str | dict[str, Any]] = ()) -> None:
        self.url = ""
        self.sandbox = Sandbox(settings or Settings())
        put_faults(self.sandbox, list(faults))
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._listens = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._failure: BaseException | None = None

    @property
    def state(self) -> State:
        """What the sandbox knows. Reading it from another thread shows it between two requests; change it with `do`."""
        return self.sandbox.state

    def start(self) -> Self:
        """Listen; returns when it does. Raises what kept it from that."""
        self._thread.start()
        self._listens.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop listening and end all connections; returns when that is done."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in the sandbox's thread and return what it returns."""

        async def call() -> Result:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def put_faults(self, *faults: str | dict[str, Any]) -> None:
        """Replace all faults."""
        self.do(put_faults, self.sandbox, list(faults))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # it is raised in the thread that called `start`
            self._failure = error
        finally:
            self._listens.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with listening(self.sandbox) as self.url:
            self._listens.set()
            await self._stop.wait()
