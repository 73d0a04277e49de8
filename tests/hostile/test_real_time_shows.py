"""Where real time shows though a program is on the clock: rows of docs/why-real-time.md."""

from __future__ import annotations

import subprocess
import sys
import time

from pytest_vdsotime import FrozenClock

CEILING_S = 30

# As ping: it has the kernel stamp what arrives, and tells the stamp and what its own clock reads.
STAMPED = """
import socket, struct, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("127.0.0.1", 0))
    one.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
    one.sendto(b"ping", one.getsockname())
    _, [(level, kind, data)], *_ = one.recvmsg(100, 100)
    print(struct.unpack("qq", data)[0], int(time.time()))
"""


def test_stamps_of_packets() -> None:
    before = int(time.time())
    with FrozenClock("2038-01-19") as clock:
        output = clock.check_output([sys.executable, "-c", STAMPED], text=True, timeout=CEILING_S)
        stamp, now = map(int, output.split())
        assert now == int(clock.time())
    assert before <= stamp <= time.time()


def test_starts_of_processes() -> None:
    this_year = time.localtime().tm_year
    with FrozenClock("2038-01-19") as clock:
        sleep = clock.popen(["sleep", "1h"], stdout=subprocess.DEVNULL)
        command = ["ps", "-o", "lstart=", "-p", str(sleep.pid)]
        assert clock.check_output(command, text=True, timeout=CEILING_S).split()[-1] in (
            str(this_year),
            str(this_year + 1),
        )
