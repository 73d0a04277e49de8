"""``vdsotime ctl``: moves the clock of a running ``vdsotime --control``, from a shell."""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pytest_vdsotime.cli.become import EXIT_USAGE, complain
from pytest_vdsotime.control.address import ADDRESS_VARIABLE, TOKEN_VARIABLE, Address
from pytest_vdsotime.events import readable

EXIT_FAILED, EXIT_NOT_SETTLED, EXIT_NOBODY_THERE = 1, 3, 4
_EXITS = {
    http.client.BAD_REQUEST: EXIT_USAGE,
    http.client.CONFLICT: EXIT_NOT_SETTLED,
    http.client.GONE: EXIT_NOBODY_THERE,
}
#: Verbs, what they ask for, and what they do.
_VERBS = {
    "now": ("GET /clock", "say what the clock reads"),
    "advance": ("POST /advance", "time passes by SPAN"),
    "jump": ("POST /jump", "the machine has slept for SPAN"),
    "next": ("POST /advance_to_next", "on to the earliest deadline"),
    "move-to": ("POST /move_to", "set the wall clock to WHEN"),
    "rate": ("POST /rate", "the wall clock goes at R seconds per real second"),
    "settle": ("POST /settle", "wait until every thread is blocked"),
    "waits": ("GET /waits", "say what threads wait for, the soonest first"),
    "ps": ("GET /processes", "say which processes are alive"),
    "describe": ("GET /describe", "say all that in words"),
}
_MAX_ANSWER = 64 * 1024 * 1024
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument ", "", message)
        complain(f"ctl: {message}; try vdsotime ctl --help")
        sys.exit(EXIT_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vdsotime ctl",
        description="Move the clock of a running vdsotime --control.",
        epilog="Exit status: 0 done, 1 failed, 2 bad usage, 3 the programs did not settle, 4 "
        "nobody is there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--control", metavar="ADDRESS", help=f"where; default: {ADDRESS_VARIABLE} says it"
    )
    parser.add_argument("--json", action="store_true", help="say the answer as JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (_, words) in _VERBS.items():
        verb = verbs.add_parser(name, help=words, description=words, allow_abbrev=False)
        if name in ("advance", "jump"):
            verb.add_argument("span", metavar="SPAN", help="seconds, or such as 1h30m, '2 days'")
        if name == "advance":
            verb.add_argument("--stride", metavar="SPAN", help="in strides of so much")
        if name in ("advance", "jump", "settle"):
            verb.add_argument("--timeout", metavar="S", type=_number, help="real seconds to settle")
        if name == "move-to":
            verb.add_argument("when", metavar="WHEN", help="as that of vdsotime --at")
        if name == "rate":
            verb.add_argument("rate", metavar="R", type=_number, help="0 stands still, 1 ticks")
    return parser


def _number(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(found := float(text)):
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a number")


def ctl(arguments: Sequence[str]) -> int:
    """Run the command with `arguments`; return its exit status."""
    words = [*arguments]
    # A span back in time is no option.
    if words and re.match(r"-[\d.]", words[-1]) and "--" not in words:
        words.insert(-1, "--")
    parser = _parser()
    given = parser.parse_args(words)
    text = given.control or os.environ.get(ADDRESS_VARIABLE)
    if not text:
        parser.error(f"which clock? --control ADDRESS or {ADDRESS_VARIABLE} says it")
    try:
        address = Address.parse(text)
    except ValueError as error:
        parser.error(f"--control: {error}")
    method, path = _VERBS[given.verb][0].split()
    try:
        status, answer = _ask(address, method, path, _body(given))
    except (ConnectionError, FileNotFoundError, http.client.HTTPException) as error:
        complain(f"ctl: nobody is there, at {address}: {getattr(error, 'strerror', None) or error}")
        return EXIT_NOBODY_THERE
    except OSError as error:
        complain(f"ctl: {address}: {error.strerror or error}")
        return EXIT_FAILED
    try:
        if status != http.client.OK:
            complain(f"ctl: {json.loads(answer)['message']}")
            return _EXITS.get(status, EXIT_FAILED)
        lines, remark = _told(given, answer)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        complain(f"ctl: no clock is served at {address}: it has answered {status} {answer[:40]!a}")
        return EXIT_FAILED
    print(*lines, sep="\n", end="\n" if lines else "")
    if remark:
        complain(f"ctl: {remark}")
    return 0


def _body(given: argparse.Namespace) -> dict[str, Any]:
    body = {
        name: value
        for name in ("when", "rate", "timeout")
        if (value := getattr(given, name, None)) is not None
    }
    if (span := getattr(given, "span", None)) is not None:
        body |= {"seconds": float(span)} if _NUMBER.fullmatch(span) else {"span": span}
    if (stride := getattr(given, "stride", None)) is not None:
        body["stride"] = float(stride) if _NUMBER.fullmatch(stride) else stride
    return body


class _Connection(http.client.HTTPConnection):
    """To the one or the other kind of address."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host or "localhost", address.port or None)
        self._path = address.path

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _ask(address: Address, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = _Connection(address)
    try:
        connection.request(method, path, json.dumps(body) if method == "POST" else None, headers)
        response = connection.getresponse()
        answer = response.read(_MAX_ANSWER)
        return response.status, answer.decode(errors="backslashreplace")
    except ValueError as error:  # of the length of a chunk, which http.client takes as it comes
        raise http.client.HTTPException(str(error)) from None
    finally:
        connection.close()


def _told(given: argparse.Namespace, answer: str) -> tuple[list[str], str]:
    """Return the lines that tell an answer, and a remark on it.

    Raises as JSON and its values do, for an answer that is none of a clock's.
    """
    found: Any = None if given.verb == "describe" else json.loads(answer)
    if given.json or given.verb == "describe":
        return [answer.removesuffix("\n")], ""
    kind = type(found).__name__
    if kind != ("list" if given.verb in ("waits", "ps") else "dict"):
        raise TypeError(f"{given.verb} is not answered by a {kind}")
    if given.verb == "waits":
        return [
            f"{one['remaining']:.12g} s: {readable(one['command'])} (pid {one['pid']}) in "
            f"{one['syscall']} by {one['clock']}"
            for one in found
        ], ""
    if given.verb == "ps":
        return [
            f"{one['pid']} {' '.join(map(readable, one['argv']))}"
            f"{'' if one['is_on_clock'] else ' (in real time)'}"
            for one in found
        ], ""
    remark = "" if found.get("moved", True) else "nothing waits for a deadline"
    return [readable(found["now"])], remark
