"""REQUESTS: what a client may ask, one row each.

From the rows come what is answered, and the OpenAPI document that says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from threading import TIMEOUT_MAX
from typing import Any, Final

from pytest_vdsotime import verbs
from pytest_vdsotime.instants import TimedeltaKeywords, format_instant
from pytest_vdsotime.processes import pending_waits
from pytest_vdsotime.session import ClockSession, Verb

_VERSION = "1.0"  # of this document
_MAX_DIGITS = 1000
_NUMBER: Final = {"type": "number"}
_POSITIVE: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": int(TIMEOUT_MAX)}
_SPAN: Final = {
    "description": "seconds, or a span such as 1h30m or '2 days'",
    "examples": ["1h", 60],
    "type": ["number", "string"],
}
_UNITS = tuple(TimedeltaKeywords.__annotations__)
_PASSING: Final = {
    **{unit: {**_NUMBER, "minimum": 0} for unit in _UNITS},
    "span": {
        "type": "string",
        "description": "such as 1h30m or '2 days', in place of units",
        "examples": ["1h30m"],
    },
    "timeout": {**_POSITIVE, "description": "real seconds to settle after each deadline"},
}
_CLOCK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "now": {"type": "string", "description": "the wall line, ISO 8601 in UTC"},
        "time_ns": {"type": "integer", "description": "the wall line, since the epoch"},
        "monotonic_ns": {"type": "integer"},
        "rate": {**_NUMBER, "description": "seconds of the wall line per real second"},
    },
    "required": ["now", "time_ns", "monotonic_ns", "rate"],
    "additionalProperties": False,
}


class BadRequest(Exception):
    """A request cannot be done; `status` says of what kind that is."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One row: what a client may ask."""

    method: str
    path: str
    summary: str
    answer: Callable[[ClockSession, dict[str, Any]], Any]
    """Of the body's members; a str is told as text."""
    takes: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schemas of the body's members."""
    required: Sequence[str] = ()
    gives: Mapping[str, Any] = field(default_factory=lambda: _CLOCK)
    """The JSON Schema of the answer; empty for text."""


def _clock(session: ClockSession) -> dict[str, Any]:
    session.check_open()
    session.asks()
    wall_ns = session.wall_ns()
    return {
        "now": format_instant(wall_ns),
        "time_ns": wall_ns,
        "monotonic_ns": session.monotonic_ns(),
        "rate": session.rate,
    }


def _amount(body: dict[str, Any]) -> tuple[str | None, TimedeltaKeywords]:
    keywords: Any = {unit: body[unit] for unit in _UNITS if unit in body}
    if ("span" in body) == bool(keywords):
        raise ValueError('say how long: {"seconds": 3600}, {"hours": 1} or {"span": "1h"}')
    return body.get("span"), keywords


def _advance(session: ClockSession, body: dict[str, Any]) -> dict[str, Any]:
    stride = body.get("stride", ...)
    timeout = body.get("timeout", verbs.SETTLE_TIMEOUT_S)
    session.ask(verbs.advance(session, *_amount(body), stride, timeout))
    return _clock(session)


def _jump(session: ClockSession, body: dict[str, Any]) -> dict[str, Any]:
    session.ask(verbs.jump(*_amount(body), body.get("timeout", verbs.SETTLE_TIMEOUT_S)))
    return _clock(session)


def _advance_to_next(session: ClockSession, _body: dict[str, Any]) -> dict[str, Any]:
    moved = session.ask(verbs.advance_to_next()) is not None
    return {**_clock(session), "moved": moved}


def _move_to(session: ClockSession, body: dict[str, Any]) -> dict[str, Any]:
    session.ask(verbs.move_to(session, body["when"]))
    return _clock(session)


def _rate(session: ClockSession, body: dict[str, Any]) -> dict[str, Any]:
    session.ask(verbs.set_rate(body["rate"]))
    return _clock(session)


def _settle(session: ClockSession, body: dict[str, Any]) -> dict[str, Any]:
    session.ask(verbs.settle(body.get("timeout", verbs.SETTLE_TIMEOUT_S)))
    return _clock(session)


def _waits(session: ClockSession, _body: dict[str, Any]) -> list[dict[str, Any]]:
    return [asdict(one) for one in session.ask(Verb("", pending_waits)) or ()]


def _processes(session: ClockSession, _body: dict[str, Any]) -> list[dict[str, Any]]:
    return [asdict(one) for one in session.processes()]


def _describe(session: ClockSession, _body: dict[str, Any]) -> str:
    session.check_open()
    return session.describe() + "\n"


def _openapi(_session: ClockSession, _body: dict[str, Any]) -> dict[str, Any]:
    return openapi()


def _array(**properties: str) -> dict[str, Any]:
    """Return the JSON Schema of a list of objects with these members, each of a type."""
    schemas: dict[str, Any] = {name: {"type": kind} for name, kind in properties.items()}
    if "argv" in schemas:
        schemas["argv"]["items"] = {"type": "string"}
    return {
        "type": "array",
        "items": {"type": "object", "properties": schemas, "required": [*schemas]},
    }


_MOVED: Final = {
    **_CLOCK,
    "properties": {**_CLOCK["properties"], "moved": {"type": "boolean"}},
    "required": [*_CLOCK["required"], "moved"],
}
_WAITS = _array(
    pid="integer",
    tid="integer",
    command="string",
    syscall="string",
    clock="string",
    deadline_ns="integer",
    remaining="number",
)
_PROCESSES = _array(
    pid="integer",
    ppid="integer",
    argv="array",
    has_read_clock="boolean",
    is_on_clock="boolean",
)
REQUESTS = (
    Request("GET", "/clock", "What the clock reads.", lambda session, _body: _clock(session)),
    Request(
        *("POST", "/advance", "Time passes, from deadline to deadline or in strides."),
        _advance,
        {**_PASSING, "stride": {**_SPAN, "type": ["number", "string", "null"]}},
    ),
    Request(
        *("POST", "/jump", "The machine has slept for that long."),
        _jump,
        _PASSING,
    ),
    Request(
        *("POST", "/advance_to_next", "On to the earliest deadline, if there is one."),
        _advance_to_next,
        gives=_MOVED,
    ),
    Request(
        *("POST", "/move_to", "The wall clock is set, and it alone."),
        _move_to,
        {
            "when": {
                "type": ["string", "number"],
                "description": "ISO 8601, @SECONDS, seconds since the epoch, or a span from now",
                "examples": ["2038-01-19T03:14:07Z", "+1h30m"],
            }
        },
        ["when"],
    ),
    Request(
        *("POST", "/rate", "The wall line goes on at that many seconds per real second."),
        _rate,
        {"rate": {**_NUMBER, "minimum": 0, "exclusiveMaximum": 2**63}},
        ["rate"],
    ),
    Request(
        *("POST", "/settle", "Wait until every thread is blocked."),
        _settle,
        {"timeout": _POSITIVE},
    ),
    Request(
        *("GET", "/waits", "What threads wait for, the soonest deadline first."),
        _waits,
        gives=_WAITS,
    ),
    Request(
        *("GET", "/processes", "The processes that are alive, by pid."),
        _processes,
        gives=_PROCESSES,
    ),
    Request("GET", "/describe", "The clock and its threads in words.", _describe, gives={}),
    Request("GET", "/openapi.json", "This document.", _openapi, gives={"type": "object"}),
)
BY_PATH: Final = {
    path: {one.method: one for one in REQUESTS if one.path == path}
    for path in dict.fromkeys(one.path for one in REQUESTS)
}

_STATUSES: Final = {
    HTTPStatus.BAD_REQUEST: "Bad input; the clock is as it was.",
    HTTPStatus.UNAUTHORIZED: "The token is missing or another clock's (TCP).",
    HTTPStatus.NOT_FOUND: "There is no such request.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The request has another method.",
    HTTPStatus.CONFLICT: "NotSettled: some thread was still busy; `busy` names it.",
    HTTPStatus.GONE: "The clock is closed.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The tracer has failed.",
}


def openapi() -> dict[str, Any]:
    """Return the API as an OpenAPI 3.1 document."""
    failure = {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "message": {"type": "string"},
            "busy": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["error", "message"],
    }
    json_of: Callable[[Any], Any] = lambda schema: {"application/json": {"schema": schema}}  # noqa: E731
    failures = {
        str(int(status)): {"description": text, "content": json_of(failure)}
        for status, text in _STATUSES.items()
    }
    paths: dict[str, dict[str, Any]] = {}
    for one in REQUESTS:
        content = (
            json_of(one.gives) if one.gives else {"text/plain": {"schema": {"type": "string"}}}
        )
        operation: dict[str, Any] = {
            "operationId": one.path.strip("/").replace(".", "_"),
            "summary": one.summary,
            "responses": {"200": {"description": "Done.", "content": content}, **failures},
        }
        if one.method == "POST":
            schema = {
                "type": "object",
                "properties": one.takes,
                "required": [*one.required],
                "additionalProperties": False,
            }
            if "span" in one.takes:
                units = [{"required": [unit]} for unit in _UNITS]
                schema["oneOf"] = [{"required": ["span"]}, {"anyOf": units}]
            operation["requestBody"] = {
                "required": bool(one.required) or "span" in one.takes,
                "content": json_of(schema),
            }
        paths.setdefault(one.path, {})[one.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "vdsotime", "version": _VERSION},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


def members_of(text: bytes, one: Request) -> dict[str, Any]:
    """Return the members of a request's body. Raises BadRequest."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def whole(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a member stands there twice")
        return found

    try:
        body = json.loads(
            text.decode() if text.strip() else "{}",
            parse_constant=refuse,
            parse_int=whole,
            object_pairs_hook=unique,
        )
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise _bad("the body is not a JSON object")
    if unknown := sorted(body.keys() - one.takes.keys()):
        known = ", ".join(one.takes) or "nothing"
        raise _bad(f"{unknown[0]!r} is unknown: {one.path} takes {known}")
    if missing := [name for name in one.required if name not in body]:
        raise _bad(f"{missing[0]!r} is missing")
    for name, value in body.items():
        schema, said = one.takes[name], json.dumps(value)
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if _kind(value) not in kinds:
            raise _bad(f"{name!r} is a {' or '.join(kinds)}, not {said}")
        if "minimum" in schema and not value >= schema["minimum"]:
            raise _bad(f"{name!r} is at least {schema['minimum']}, not {said}")
        if "maximum" in schema and not value <= schema["maximum"]:
            raise _bad(f"{name!r} is at most {schema['maximum']}, not {said}")
        if "exclusiveMaximum" in schema and not value < schema["exclusiveMaximum"]:
            raise _bad(f"{name!r} is less than {schema['exclusiveMaximum']}, not {said}")
        if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
            raise _bad(f"{name!r} is more than {schema['exclusiveMinimum']}, not {said}")
    return body


def _bad(message: str) -> BadRequest:
    return BadRequest(HTTPStatus.BAD_REQUEST, message)


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "boolean" if value is not None else "null"
    kinds = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return kinds[type(value)]
