"""What /proc says of a program stands beside names that the program chooses, of any bytes."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_vdsotime.availability import _status
from pytest_vdsotime.events import readable
from pytest_vdsotime.kernel import procfs

Examples = Callable[..., Callable[[Callable[..., None]], None]]

PR_SET_NAME = 15
#: Of the fields that are read, as lines of their own may have them.
FIELDS = (
    *(b"Tgid:\t1", b"TracerPid:\t7", b"CapEff:\t3ffff", b"CapPrm:\t3ffff", b"SigCgt:\t-1"),
    *(b"Seccomp:\t2", b"FDSize:\tx", b"NStgid:\t9 1", b"Uid:\t0"),
)
ENDS = b"\n", b"\r", b"\r\n", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x85", b"\xe2\x80\xa8"
pieces = st.sampled_from(
    [*FIELDS, *ENDS, b")", b") R 1 ", b"(", b" ", b"\t", b"\\", b"\xff", b"[vdso]"]
) | st.binary(min_size=1, max_size=4)
names = (
    st.lists(pieces, min_size=1, max_size=8).map(b"".join).map(lambda one: one.replace(b"\0", b""))
)


def known(tid: int) -> dict[str, Any]:
    """All that is read of a thread but its name."""
    readings: dict[str, Callable[[], Any]] = {
        "process": lambda: procfs.thread_group(tid),
        "tracer": lambda: procfs.tracer_of(tid),
        "filter": lambda: procfs.has_filter(tid),
        "catches": lambda: [procfs.catches(tid, number) for number in range(1, 65)],
        "masks": lambda: procfs.signal_masks(tid),
        "pending": lambda: procfs.is_pending(tid, 10, shared=True),
        "capabilities": lambda: [procfs.has_capability(tid, one) for one in range(40)],
        "core": lambda: procfs.dumps_core(tid),
        "table": lambda: procfs.descriptor_table_size(tid),
        "first": lambda: procfs.is_namespace_init(tid),
        "parent": lambda: (procfs.stat_fields(tid) or ("", 0))[1],
        "arguments": lambda: procfs.argv(tid),
        "seen by availability": lambda: (
            _status(f"/proc/{tid}").get("TracerPid"),
            _status(f"/proc/{tid}").get("Uid"),
        ),
        "pages": lambda: procfs.memfd_mappings(tid, "r--s"),
        "image": lambda: procfs.vdso_areas(tid),
    }
    return {name: reading() for name, reading in readings.items()}


def test_a_name_is_no_line(examples: Examples) -> None:
    tid = os.getpid()
    libc = ctypes.CDLL(None)
    own = Path("/proc/self/comm").read_bytes().removesuffix(b"\n")

    @examples(names, count=75)
    def check(name: bytes) -> None:
        before = known(tid)
        libc.prctl(PR_SET_NAME, name)
        try:
            assert known(tid) == before
            assert procfs.command(tid) == (readable(os.fsdecode(name[:15])) or "?")
            assert procfs.command(tid).isprintable()
            procfs.command(tid).encode()
        finally:
            libc.prctl(PR_SET_NAME, own)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[bytes]:
    yield os.fsencode(tmp_path)


file_names = st.one_of(
    names,
    st.sampled_from([b"x [vdso]", b"[vdso]", b" [vvar]", b"memfd:vdsotime", b"a /memfd:vdsotime"]),
    st.builds(
        b"%s%x-%x r--s 00000000 00:01 7 %s".__mod__,
        st.tuples(
            st.sampled_from(ENDS),
            *(st.integers(0, 2**40),) * 2,
            st.sampled_from([b" memfd:vdsotime", b" [vdso]"]),
        ),
    ),
).map(lambda one: one.replace(b"/", b"")[:200])


def test_a_mapped_file_is_no_line(examples: Examples, directory: bytes) -> None:
    tid = os.getpid()
    libc = ctypes.CDLL(None)
    before = procfs.memfd_mappings(tid, "r--s"), procfs.vdso_areas(tid)

    @examples(file_names, st.booleans(), count=75)
    def check(name: bytes, is_memfd: bool) -> None:
        path = b"%s/%s" % (directory, name)
        if is_memfd:
            fd = libc.memfd_create(name.replace(b"vdsotime", b""), 0)
        else:
            with suppress(OSError):
                os.unlink(path)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT)
            except OSError:  # "." and the like
                return
        try:
            os.truncate(fd, 1)
            with mmap.mmap(fd, 1, mmap.MAP_SHARED, mmap.PROT_READ):
                assert (procfs.memfd_mappings(tid, "r--s"), procfs.vdso_areas(tid)) == before
        finally:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)
