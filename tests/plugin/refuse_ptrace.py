"""refuse_ptrace.py COMMAND... executes COMMAND where ptrace is refused, as in containers."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h
NR_PTRACE = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
EPERM = 1

# linux/bpf_common.h, linux/seccomp.h: load the number; ptrace fails, everything else is allowed.
PROGRAM = [
    (0x20, 0, 0, 0),
    (0x15, 0, 1, NR_PTRACE),
    (0x06, 0, 0, 0x00050000 | EPERM),
    (0x06, 0, 0, 0x7FFF0000),
]


def main() -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in PROGRAM)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("@HP", len(PROGRAM), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
