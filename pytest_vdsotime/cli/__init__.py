"""The ``vdsotime`` command line: what is asked for, checked before anything is started."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from pytest_vdsotime import __version__
from pytest_vdsotime.availability import known_obstacle
from pytest_vdsotime.cli.become import EXIT_OWN_ERROR, EXIT_USAGE, Beside, become, fail, open_trace
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.options import PARAMETERS, Parameter, validate_options

if TYPE_CHECKING:
    from pytest_vdsotime.control.address import Served
    from pytest_vdsotime.instants import Instant


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments`, by default those of the process. Never returns."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    given = sys.argv[1:] if arguments is None else [*arguments]
    if given[:1] == ["ctl"]:
        from pytest_vdsotime.cli.ctl import ctl

        sys.exit(ctl(given[1:]))
    options = _parse(given)
    if options.check:
        from pytest_vdsotime.cli.check import check

        sys.exit(check())
    if options.explain:
        _explain(options.start)
        sys.exit()
    trace = None if options.trace is None else open_trace(options.trace)
    served = None if options.control is None else _serve(options.control)
    try:
        become(options.command, options.parameters, trace, Beside(served, options.containers))
    except (TracingUnavailable, OSError, subprocess.SubprocessError) as error:
        if served is not None:
            served.remove()
        fail(EXIT_OWN_ERROR, str(error))


def _serve(text: str) -> Served:
    import pytest_vdsotime.session  # noqa: F401  (takes time, in which nobody would remove the socket)
    from pytest_vdsotime.control.address import Address, Served

    try:
        return Served.at(Address.parse(text))
    except ValueError as error:
        fail(EXIT_USAGE, f"--control: {error}; try vdsotime --help")
    except OSError as error:
        fail(EXIT_USAGE, f"--control {text}: {error.strerror}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument ", "", message)
        message = re.sub(
            r"^unrecognized arguments: (\S+).*", r"\1: there is no such option", message
        )
        fail(EXIT_USAGE, f"{message}; try vdsotime --help")


class _Help(argparse.HelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        return text.replace(" [", "[=") if action.nargs == "?" else text


def _parser() -> argparse.ArgumentParser:
    parameters = [one for one in PARAMETERS if one.flag]
    parser = _Parser(
        prog="vdsotime",
        usage=f"%(prog)s {' '.join(one.usage for one in parameters)} [--trace FILE] "
        "[--control ADDRESS] [--containers] [--] COMMAND [ARG...]\n"
        "       %(prog)s ctl VERB ...\n"
        "       %(prog)s [--at WHEN] --explain\n"
        "       %(prog)s --check\n"
        "       %(prog)s --version",
        description="Run COMMAND, and all that it starts, with a clock of its own.",
        epilog="COMMAND behaves as if it ran alone, its clock apart. Exit status: that of COMMAND, "
        "or 2 bad usage, 125 vdsotime failed, 126 COMMAND not executable, 127 COMMAND not found.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    for one in parameters:
        keywords = {**one.argument, "type": _converter(one)}
        parser.add_argument(one.flag, dest=one.name, default=one.default, **keywords)
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write what happened to FILE, as Trace Event JSON, which opens in Perfetto "
        "(ui.perfetto.dev) and chrome://tracing; it is whole when COMMAND has ended, and tells "
        "of nothing that comes later",
    )
    parser.add_argument(
        "--control",
        metavar="ADDRESS",
        help="serve the clock over HTTP at unix:PATH or 127.0.0.1:PORT (0: any free one), which "
        "COMMAND finds in VDSOTIME_CONTROL, for vdsotime ctl and for any language",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say what is understood by --at, in UTC and in the local zone, and run nothing",
    )
    parser.add_argument(
        "--containers",
        action="store_true",
        help="have an engine whose containers are on the clock, Podman's or Docker's, for as long "
        "as COMMAND runs, which finds it by DOCKER_HOST and CONTAINER_HOST",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"vdsotime {__version__}",
        help="say which version this is",
    )
    parser.add_argument(
        "--check", action="store_true", help="say what works on this machine, line by line"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _converter(one: Parameter) -> Callable[[str], object]:
    def convert(text: str) -> object:
        try:
            return one.from_shell(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _spelled_out(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Give options that stand alone their value: the next word is COMMAND, or another option.

    And have a value such as -15d taken for no option.
    """
    found = list(arguments)
    actions = {flag: one for one in parser._actions for flag in one.option_strings}
    at = 0
    while at < len(found) and found[at].startswith("-") and found[at] != "--":
        action = actions.get(found[at])
        if action is not None and action.nargs == "?":
            found[at] += f"={action.const}"
        elif action is not None and action.nargs is None:
            if re.match(r"-[\d. ]", "".join(found[at + 1 : at + 2])):
                found[at] += f"={found.pop(at + 1)}"
            else:
                at += 1
        at += 1
    return found


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(_spelled_out(parser, arguments))
    if options.command[:1] == ["--"]:
        del options.command[0]
    if options.check:
        if options.command:
            parser.error("--check takes no COMMAND")
        return options
    if not options.command and not options.explain:
        parser.error("which COMMAND?")
    obstacle = None if options.explain else known_obstacle()
    if obstacle is not None:
        fail(EXIT_OWN_ERROR, str(TracingUnavailable(*obstacle)))
    options.parameters = {one.name: getattr(options, one.name) for one in PARAMETERS if one.flag}
    for one in PARAMETERS:
        try:
            if one.flag:
                one.check(options.parameters[one.name])
        except (TypeError, ValueError) as error:
            message = re.sub(rf"^(a )?{one.name} is", "it is", str(error))
            parser.error(f"{one.flag}: {message}")
    try:
        validate_options(**options.parameters)
    except (TypeError, ValueError) as error:
        parser.error(_in_the_shell(str(error)))
    return options


def _explain(when: Instant) -> None:
    """Print what is understood by an instant."""
    from pytest_vdsotime.instants import format_instant, format_span, parse_instant
    from pytest_vdsotime.timeline import host_wall_ns, to_datetime

    now_ns = host_wall_ns()
    instant_ns = parse_instant(when, now_ns)
    print(f"UTC    {format_instant(instant_ns)}")
    with suppress(OverflowError, ValueError):  # in the first year or the last one
        local = to_datetime(instant_ns).astimezone()
        print(f"local  {local.isoformat(' ', 'seconds')} ({local.tzname()})")
    distance_ns = instant_ns - now_ns
    side = "before" if distance_ns < 0 else "after"
    print(f"       {format_span(abs(distance_ns))} {side} now" if distance_ns else "       now")


def _in_the_shell(message: str) -> str:
    """Return what is said of parameters that cannot be together, with the options' names."""
    for one in PARAMETERS:
        message = re.sub(rf"^{one.name}(?=: )", one.flag, message)
        message = re.sub(rf"\b{one.name}='(\w+)'", rf"{one.flag} \1", message)
    return message
