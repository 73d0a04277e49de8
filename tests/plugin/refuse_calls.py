"""refuse_calls.py CALL,... COMMAND... executes COMMAND where these system calls are refused: ptrace
as in containers, others as by kernels that do not know them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from pytest_vdsotime.abi import constant, packer, syscalls

NUMBERS = syscalls(os.uname().machine)


def code(*names: str) -> int:
    return sum(constant(f"BPF_{name}") for name in names)


def program(calls: list[str]) -> list[tuple[int, int, int, int]]:
    """Load the number; these fail, everything else is allowed."""
    equal, verdict = code("JMP", "JEQ", "K"), code("RET", "K")
    instructions = [(code("LD", "W", "ABS"), 0, 0, 0)]
    for call in calls:
        error = errno.EPERM if call == "ptrace" else errno.ENOSYS
        refused = constant("SECCOMP_RET_ERRNO") | error
        instructions += [(equal, 0, 1, NUMBERS[call]), (verdict, 0, 0, refused)]
    return [*instructions, (verdict, 0, 0, constant("SECCOMP_RET_ALLOW"))]


def main() -> None:
    instructions = program(sys.argv[1].split(","))
    buffer = ctypes.create_string_buffer(
        b"".join(packer("sock_filter").pack(*one) for one in instructions)
    )
    header = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(constant("PR_SET_NO_NEW_PRIVS"), 1, 0, 0, 0) or libc.prctl(
        constant("PR_SET_SECCOMP"), constant("SECCOMP_MODE_FILTER"), header, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
