"""One request's stay in the sandbox: its row in the ledger, its lane, its body, its effect, its end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import msgspec
from aiohttp import web

from outbox_worker.demo.sandbox.bodies import NOTHING, Reading, read_body
from outbox_worker.demo.sandbox.connection import Connection
from outbox_worker.demo.sandbox.faults import Fault
from outbox_worker.demo.sandbox.ledger import SeenRequest
from outbox_worker.demo.sandbox.operations import API, LANE_OPERATIONS, Route, route
from outbox_worker.demo.sandbox.sandbox import Sandbox
from outbox_worker.demo.sandbox.state import DONE, Answer, Call

UNAUTHORIZED = Answer(401, {"error": "unauthorized"})
encode = msgspec.json.Encoder().encode


class Visit:
    """A request that is in the sandbox. To make one is to write the arrival down."""

    def __init__(self, sandbox: Sandbox, connection: Connection, request: web.BaseRequest) -> None:
        self.sandbox = sandbox
        self.connection = connection
        self._request = request
        self._body = b""
        self._reading = NOTHING
        self._lane: tuple[str, str] | None = None
        found = route(request.method, request.path, searches="phone" in request.query)
        self.fault = sandbox.faults.draw(found.operation)
        self.seen = self._row(found, self.fault)
        sandbox.state.ledger.arrived(self.seen)
        self._enter_lane()
        connection.on_gone = self._client_gone

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the path."""
        return self._request.query

    def has_left(self) -> bool:
        """Say whether the client is gone (the lanes ask)."""
        return self.connection.is_gone()

    async def read(self) -> None:
        """Take in the body: only now a hook's phone and event id are known."""
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body = await self._request.content.read()
        self.seen.body_sha256 = hashlib.sha256(self._body).hexdigest()
        self._reading = read_body(self.seen.operation, self._body)
        self._note(self._reading)

    def act(self) -> Answer:
        """Have the effect, unless the fault prevents it, in which case the fault has its own answer."""
        if self.fault is not None and not self.fault.acts:
            return DONE
        if self.seen.destination == API and not self._has_token():
            return UNAUTHORIZED
        call = Call(self.seen, self._body, self._request.query, self._reading)
        return self.sandbox.state.act(call, time.time(), time.monotonic())

    async def write(self, answer: Answer) -> web.StreamResponse:
        """Answer, and thereby end the stay."""
        response = respond(answer)
        await response.prepare(self._request)
        await response.write_eof()
        self.end("answered", answer.status)
        return response

    def end(self, how: str, status: int | None = None) -> None:
        """Complete the row; the first ending counts."""
        if self.seen.ended is not None:
            return
        ledger = self.sandbox.state.ledger
        ledger.ended(self.seen, how, status, time.monotonic())
        if self._lane is not None:
            ledger.lanes.leave(self._lane, self)
        self.sandbox.on_ended(self.seen)

    def _client_gone(self) -> None:
        self.end("client_gone")

    def _row(self, found: Route, fault: Fault | None) -> SeenRequest:
        request = self._request
        return SeenRequest(
            sequence=self.sandbox.state.ledger.requests.last + 1,
            arrived_at=time.time(),
            arrived_monotonic_s=time.monotonic(),
            connection=self.connection.number,
            operation=found.operation,
            destination=found.destination,
            method=request.method,
            path=request.path_qs,
            phone=request.query.get("phone") if found.operation == "find_client" else found.phone,
            event_id=found.event_id,
            idempotency_key=request.headers.get("Idempotency-Key"),
            fault=None if fault is None else fault.kind,
        )

    def _note(self, reading: Reading) -> None:
        self.seen.event_id = self.seen.event_id or reading.event_id
        self.seen.phone = self.seen.phone or reading.phone
        self._enter_lane()

    def _enter_lane(self) -> None:
        seen = self.seen
        if self._lane is None and seen.phone is not None and seen.operation in LANE_OPERATIONS:
            self._lane = (seen.destination, seen.phone)
            seen.lane_count = self.sandbox.state.ledger.lanes.enter(self._lane, self)

    def _has_token(self) -> bool:
        return self._request.headers.get("Authorize") == f"Bearer {self.sandbox.settings.token}"


def respond(answer: Answer) -> web.Response:
    """Turn an answer into one of aiohttp's."""
    return web.Response(
        body=encode(answer.body), status=answer.status, headers=answer.headers, content_type="application/json"
    )
