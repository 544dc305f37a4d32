"""The description of the service for programs, OpenAPI 3.1, served at /openapi.json."""

from __future__ import annotations

from typing import Any

from outbox_worker import __version__
from outbox_worker.rules.asking import EMAIL_MAX, NUMBER_MAX, PHONE_MAX

_PROBLEMS = {
    "400": "The body cannot be understood, or gives neither e-mail address nor phone.",
    "401": "A token is wanted, and there is none, or a wrong one.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is not application/json.",
    "429": "Too many requests; Retry-After says when to come again.",
    "500": "Something that nobody foresaw; the log has it.",
    "503": "The database is away or busy; Retry-After says when to come again. Nothing is lost by asking again.",
}


def document(body_bytes_max: int, *, wants_token: bool) -> dict[str, Any]:
    """Return the description of this service as it is set up."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "identify",
            "version": __version__,
            "description": "Tells which contact details belong to one person, and remembers what is new.",
        },
        "paths": {"/identify": {"post": _identify(body_bytes_max, wants_token=wants_token)}},
        "components": {
            "schemas": {"Ask": _ASK, "Answer": _ANSWER, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if wants_token else {},
        },
    }


def _identify(body_bytes_max: int, *, wants_token: bool) -> dict[str, Any]:
    return {
        "operationId": "identify",
        "summary": "Whose contact details are these?",
        "security": [{"token": []}] if wants_token else [],
        "requestBody": {
            "required": True,
            "description": f"At most {body_bytes_max} bytes.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}},
        },
        "responses": {
            "200": {
                "description": "All that is known of the person, the primary contact's details first.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **{status: _problem(status, text) for status, text in _PROBLEMS.items()},
        },
    }


def _problem(status: str, text: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in {"429", "503"}:
        told["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return told


_EMAIL = {"type": ["string", "null"], "maxLength": EMAIL_MAX, "pattern": "^[^\\u0000]*$"}
_PHONE = {
    "anyOf": [
        {"type": "string", "maxLength": PHONE_MAX, "pattern": "^[^\\u0000]*$"},
        {"type": "integer", "minimum": 0, "maximum": NUMBER_MAX},
        {"type": "null"},
    ]
}
_ASK = {
    "type": "object",
    "description": "An e-mail address, a phone number, or both. Null, missing and empty are the same.",
    "properties": {"email": _EMAIL, "phoneNumber": _PHONE},
    "anyOf": [
        {"required": ["email"], "properties": {"email": {"type": "string", "minLength": 1}}},
        {"required": ["phoneNumber"], "properties": {"phoneNumber": {"type": ["string", "integer"], "minLength": 1}}},
    ],
    "examples": [{"email": "mcfly@hillvalley.edu", "phoneNumber": "123456"}],
}
_IDS = {"type": "array", "items": {"type": "integer"}}
_TEXTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
_ANSWER = {
    "type": "object",
    "required": ["contact"],
    "additionalProperties": False,
    "properties": {
        "contact": {
            "type": "object",
            "required": ["primaryContactId", "emails", "phoneNumbers", "secondaryContactIds"],
            "additionalProperties": False,
            "properties": {
                "primaryContactId": {"type": "integer"},
                "emails": _TEXTS,
                "phoneNumbers": _TEXTS,
                "secondaryContactIds": _IDS,
            },
        }
    },
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail", "pointer"],
                "properties": {"detail": {"type": "string"}, "pointer": {"type": "string"}},
            },
        },
    },
}
