"""refuse_calls.py CALL,... COMMAND... executes COMMAND where these system calls are refused: ptrace
as in containers, others as by kernels that do not know them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h
NUMBERS = {
    "x86_64": {"ptrace": 101, "clone3": 435, "close_range": 436},
    "aarch64": {"ptrace": 117, "clone3": 435, "close_range": 436},
}[os.uname().machine]


def program(calls: list[str]) -> list[tuple[int, int, int, int]]:
    """Load the number; these fail, everything else is allowed (linux/bpf_common.h,
    linux/seccomp.h)."""
    code = [(0x20, 0, 0, 0)]
    for call in calls:
        error = errno.EPERM if call == "ptrace" else errno.ENOSYS
        code += [(0x15, 0, 1, NUMBERS[call]), (0x06, 0, 0, 0x00050000 | error)]
    return [*code, (0x06, 0, 0, 0x7FFF0000)]


def main() -> None:
    instructions = program(sys.argv[1].split(","))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
