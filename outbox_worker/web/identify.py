"""POST /identify and GET /openapi.json over HTTP.

    rate ──▶ token ──▶ media type ──▶ size ──▶ body ──▶ the database ──▶ answer
     429      401         415          413     400          503

Everything that goes wrong becomes a problem document here, and nothing of its inside leaves. One line of the log for
each request; no contact detail is in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import ceil
from time import monotonic, perf_counter
from typing import Any

import msgspec
import structlog
from aiohttp import web

from outbox_worker import metrics
from outbox_worker.errors import ConfigurationError, DatabaseUnavailable, Unreadable
from outbox_worker.logs import WideLog
from outbox_worker.rules import asking
from outbox_worker.rules.asking import Ask
from outbox_worker.rules.rate import Rate
from outbox_worker.web import openapi
from outbox_worker.web.problems import problem

BODY_S_MAX = 10.0  # from the head of a request to the end of its body
STOP_S_MAX = 10.0  # what is under way at a stop may take so long
COME_AGAIN_S = 1

Answer = Callable[[Ask], Awaitable[bytes]]

_requests = cache(metrics.identify_requests.labels)  # to look a label set up anew costs as much as a line of the log


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the service listens, and what it asks of its callers. Without tokens everybody may call."""

    host: str
    port: int
    tokens: tuple[str, ...]
    body_bytes_max: int
    requests_per_s_max: float
    phone_region: str


class IdentifyServer:
    """Serves from `start` to `stop`, in the running loop."""

    def __init__(self, terms: Terms, answer: Answer) -> None:
        self._terms = terms
        self._answer = answer
        self._tokens = [_digest(token) for token in terms.tokens]
        self._rate = Rate(terms.requests_per_s_max)
        self._description = msgspec.json.encode(openapi.document(terms.body_bytes_max, wants_token=bool(terms.tokens)))
        self._log: Any = structlog.get_logger("outbox_worker.web")
        self._lines = WideLog("outbox_worker.web")
        self._lines_wait = False
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=STOP_S_MAX)

    @property
    def url(self) -> str:
        """Where it listens; the port is the real one also where 0 was asked for."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._terms.host, self._terms.port).start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen at {self._terms.host}:{self._terms.port}: {error.strerror}. "
                "Set another [identify] port, or stop what listens there."
            ) from None

    async def stop(self) -> None:
        """Listen no more, and finish what is under way."""
        await self._runner.cleanup()
        self._lines.flush()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._watched], client_max_size=self._terms.body_bytes_max)
        application.router.add_post("/identify", self._identify)
        application.router.add_get("/openapi.json", self._describe)
        return application

    @web.middleware
    async def _watched(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        begun_s = perf_counter()
        response = await self._told(request, handler)
        took_s = perf_counter() - begun_s
        _requests(response.status).inc()
        metrics.identify_seconds.observe(took_s)
        line = {
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "client": request.remote,
            "took_us": round(took_s * 1e6),
        }
        self._lines.write("info", "request", line, datetime.now(UTC))
        if not self._lines_wait:
            self._lines_wait = True
            asyncio.get_running_loop().call_soon(self._let_lines_out)
        return response

    def _let_lines_out(self) -> None:
        self._lines_wait = False
        self._lines.flush()

    async def _told(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except Unreadable as error:
            named = error.field or "the body"
            return problem(400, f"{named} {error}", field=error.field)
        except DatabaseUnavailable as error:
            self._log.warning("not answered", reason=str(error))
            return _later(503, "the database is away or busy; ask again, nothing is lost by it", COME_AGAIN_S)
        except web.HTTPRequestEntityTooLarge:
            return problem(413, f"a body may have at most {self._terms.body_bytes_max} bytes")
        except TimeoutError:
            return problem(
                408, f"the body did not come within {BODY_S_MAX:.0f} seconds", headers={"Connection": "close"}
            )
        except web.HTTPException as error:
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return problem(error.status, _WORDS.get(error.status, error.reason), headers=allowed)
        except Exception:
            self._log.exception("request failed")
            return problem(500, "something that nobody foresaw; the log has it")

    async def _identify(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if request.content.is_eof():  # it came along with the head, as small ones do
            body = await request.read()
        else:
            async with asyncio.timeout(BODY_S_MAX):
                body = await request.read()
        answer = await self._answer(asking.read(body, self._terms.phone_region))
        return web.Response(body=answer, content_type="application/json")

    def _refusal(self, request: web.Request) -> web.Response | None:
        wait_s = self._rate.wait_s(request.remote or "", monotonic())
        if wait_s:
            return _later(429, "too many requests from this address", ceil(wait_s))
        if self._tokens and not self._is_known(request.headers.get("Authorization", "")):
            challenge = {"WWW-Authenticate": "Bearer"}
            return problem(401, "send a token as `Authorization: Bearer <token>`", headers=challenge)
        if request.content_type != "application/json":
            return problem(415, "the body must be application/json")
        if (request.content_length or 0) > self._terms.body_bytes_max:
            raise web.HTTPRequestEntityTooLarge(self._terms.body_bytes_max, request.content_length or 0)
        return None

    def _is_known(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # Every token is compared, whichever fits: how long it takes tells nothing.
        found = [hmac.compare_digest(given, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(found)

    async def _describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")


_WORDS = {404: "there are /identify and /openapi.json", 405: "Allow says which methods there are"}


def _later(status: int, detail: str, wait_s: int) -> web.Response:
    return problem(status, detail, headers={"Retry-After": str(max(wait_s, 1))})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
