"""What a caller is told when something is wrong: problem documents (RFC 9457), the same for every status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"


def problem(
    status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a problem. `field` names what of the body is wrong, as a JSON pointer does; empty for all of it."""
    told: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        told["errors"] = [{"detail": detail, "pointer": f"#/{field}" if field else "#"}]
    return web.Response(status=status, body=msgspec.json.encode(told), content_type=CONTENT_TYPE, headers=headers)
