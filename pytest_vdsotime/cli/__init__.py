"""The ``vdsotime`` command line: what is asked for, checked before anything is started."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from pytest_vdsotime.availability import known_obstacle
from pytest_vdsotime.cli.become import EXIT_OWN_ERROR, EXIT_USAGE, become, fail, open_trace
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.options import PARAMETERS, validate_options


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments`, by default those of the process. Never returns."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = _parse(arguments)
    if options.check:
        from pytest_vdsotime.cli.check import check

        sys.exit(check())
    trace = None if options.trace is None else open_trace(options.trace)
    try:
        become(options.command, options.parameters, trace)
    except (TracingUnavailable, OSError, subprocess.SubprocessError) as error:
        fail(EXIT_OWN_ERROR, str(error))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(EXIT_USAGE, f"{message}; try vdsotime --help")


def _parser() -> argparse.ArgumentParser:
    parameters = [one for one in PARAMETERS if one.flag]
    parser = _Parser(
        prog="vdsotime",
        usage=f"%(prog)s {' '.join(one.usage for one in parameters)} [--trace FILE] [--] "
        "COMMAND [ARG...]\n"
        "       %(prog)s --check",
        description="Run COMMAND, and all that it starts, with a clock of its own.",
        epilog="COMMAND behaves as if it ran alone, its clock apart. Exit status: that of COMMAND, "
        "or 2 bad usage, 125 vdsotime failed, 126 COMMAND not executable, 127 COMMAND not found.",
        allow_abbrev=False,
    )
    for one in parameters:
        parser.add_argument(one.flag, dest=one.name, default=one.default, **one.argument)
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write what happened to FILE, as Trace Event JSON, which opens in Perfetto "
        "(ui.perfetto.dev) and chrome://tracing; it is complete a moment after the last program "
        "has ended, and locked (flock) until then",
    )
    parser.add_argument(
        "--check", action="store_true", help="say what works on this machine, line by line"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        del options.command[0]
    if options.check:
        if options.command:
            parser.error("--check takes no COMMAND")
        return options
    if not options.command:
        parser.error("which COMMAND?")
    obstacle = known_obstacle()
    if obstacle is not None:
        fail(EXIT_OWN_ERROR, str(TracingUnavailable(*obstacle)))
    options.parameters = {one.name: getattr(options, one.name) for one in PARAMETERS if one.flag}
    for one in PARAMETERS:
        try:
            if one.flag:
                one.check(options.parameters[one.name])
        except (TypeError, ValueError) as error:
            parser.error(f"{one.flag}: {error}")
    try:
        validate_options(**options.parameters)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return options
