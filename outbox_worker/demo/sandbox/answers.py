"""The way of a request through the sandbox, and the ways of answering it, honest and otherwise.

visit ──read──▶ [held, slow] ──act──▶ [held] ──▶ answer as the fault has it
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from math import ceil

import msgspec
from aiohttp import ClientError, web

from outbox_worker.demo.sandbox.connection import Connection
from outbox_worker.demo.sandbox.faults import Fault
from outbox_worker.demo.sandbox.state import Answer
from outbox_worker.demo.sandbox.visit import Visit, encode

Way = Callable[[Visit, Fault, Answer], Awaitable[web.StreamResponse]]
HTML = b"<html>We will be back soon</html>"
GARBAGE = b"\x16\x03\x01\x02\x00 no HTTP is spoken here\r\n\r\n"


async def receive(visit: Visit) -> web.StreamResponse:
    """See a request to its end. What is returned has been written already, or can no longer be."""
    try:
        if visit.fault is None:
            await visit.read()
            return await visit.write(visit.act())
        return await _spoiled(visit, visit.fault)
    except (ConnectionError, ClientError, web.RequestPayloadError):
        visit.end("client_gone")
        return web.Response()
    finally:
        visit.end("stopped")


async def _spoiled(visit: Visit, fault: Fault) -> web.StreamResponse:
    if fault.kind == "reset_unread":
        return _reset_now(visit)
    await visit.read()
    await _held_at("arrived", visit, fault)
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    answer = visit.act()
    await _held_at("acted", visit, fault)
    return await WAYS[fault.kind](visit, fault, answer)


async def _held_at(point: str, visit: Visit, fault: Fault) -> None:
    if fault.point == point:
        await visit.sandbox.barrier.hold(point)


async def _usual(visit: Visit, _fault: Fault, answer: Answer) -> web.StreamResponse:
    return await visit.write(answer)


async def _reset(visit: Visit, _fault: Fault, _answer: Answer) -> web.StreamResponse:
    return _reset_now(visit)


def _reset_now(visit: Visit) -> web.StreamResponse:
    visit.end("reset")
    visit.connection.reset()
    return web.Response()


async def _hang(visit: Visit, _fault: Fault, _answer: Answer) -> web.StreamResponse:
    done, _ = await asyncio.wait([visit.connection.gone], timeout=visit.sandbox.settings.hang_s_max)
    visit.end("client_gone" if done else "closed")
    visit.connection.close()
    return web.Response()


async def _error(visit: Visit, fault: Fault, _answer: Answer) -> web.StreamResponse:
    return await visit.write(Answer(fault.status, {"error": "sandbox_fault"}))


async def _throttle(visit: Visit, fault: Fault, _answer: Answer) -> web.StreamResponse:
    # Retry-After knows whole seconds only; a date is rounded up, so that it is never earlier than was asked for.
    instant = visit.seen.arrived_at + fault.seconds + 1
    after = formatdate(instant, usegmt=True) if fault.form == "date" else str(ceil(fault.seconds))
    return await visit.write(Answer(429, {"error": "sandbox_fault"}, {"Retry-After": after}))


async def _redirect(visit: Visit, fault: Fault, _answer: Answer) -> web.StreamResponse:
    return await visit.write(Answer(302, {"error": "sandbox_fault"}, {"Location": fault.location}))


async def _garbage(visit: Visit, _fault: Fault, _answer: Answer) -> web.StreamResponse:
    return _raw(visit, "garbage", GARBAGE)


async def _not_json(visit: Visit, _fault: Fault, _answer: Answer) -> web.StreamResponse:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(HTML)}\r\n\r\n"
    return _raw(visit, "not_json", head.encode() + HTML)


async def _cursor_expired(visit: Visit, _fault: Fault, answer: Answer) -> web.StreamResponse:
    return await visit.write(Answer(410, {"error": "cursor_expired"}) if "cursor" in visit.query else answer)


async def _cursor_loop(visit: Visit, _fault: Fault, answer: Answer) -> web.StreamResponse:
    if not isinstance(answer.body, dict) or "items" not in answer.body:
        return await visit.write(answer)
    cursor = visit.query.get("cursor") or answer.body["nextCursor"]
    return await visit.write(msgspec.structs.replace(answer, body=answer.body | {"nextCursor": cursor}))


async def _cut(visit: Visit, _fault: Fault, answer: Answer) -> web.StreamResponse:
    body = encode(answer.body)
    head = f"HTTP/1.1 {answer.status} Cut\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return _raw(visit, "cut", head.encode() + body[: len(body) // 2])


def _raw(visit: Visit, how: str, raw: bytes) -> web.StreamResponse:
    visit.connection.write(raw)
    visit.end(how)
    visit.connection.close()
    return web.Response()


async def _close_after(visit: Visit, _fault: Fault, answer: Answer) -> web.StreamResponse:
    response = await visit.write(answer)
    visit.connection.close()
    return response


async def _reset_idle(visit: Visit, fault: Fault, answer: Answer) -> web.StreamResponse:
    response = await visit.write(answer)
    connection = visit.connection
    asyncio.get_running_loop().call_later(fault.seconds, _reset_if_idle, connection, connection.request_count)
    return response


def _reset_if_idle(connection: Connection, request_count: int) -> None:
    if not connection.busy and connection.request_count == request_count:
        connection.reset()


async def _refuse(visit: Visit, fault: Fault, answer: Answer) -> web.StreamResponse:
    # First the port, then the answer: who has the answer must find the port closed.
    visit.sandbox.refuse_for(fault.seconds)
    return await visit.write(answer)


WAYS: dict[str, Way] = {
    "refuse": _refuse,
    "reset_before": _reset,
    "reset_after": _reset,
    "hang": _hang,
    "error": _error,
    "throttle": _throttle,
    "unauthorized": _error,
    "redirect": _redirect,
    "garbage": _garbage,
    "cut": _cut,
    "not_json": _not_json,
    "cursor_expired": _cursor_expired,
    "cursor_loop": _cursor_loop,
    "slow": _usual,
    "close_after": _close_after,
    "reset_idle": _reset_idle,
    "barrier": _usual,
}
