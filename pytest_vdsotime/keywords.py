"""The keywords of `subprocess` by their types, but for those that decide between text and bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import IO, Any, TypeAlias, TypedDict

Word: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Command: TypeAlias = "Word | Sequence[Word]"
File: TypeAlias = "int | IO[Any] | None"
Environment: TypeAlias = "Mapping[bytes, Word] | Mapping[str, Word] | None"


class CommonKeywords(TypedDict, total=False):
    """Of every function."""

    bufsize: int
    executable: Word | None
    stdin: File
    stderr: File
    preexec_fn: Callable[[], object] | None
    close_fds: bool
    shell: bool
    cwd: Word | None
    env: Environment
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class PopenKeywords(CommonKeywords, total=False):
    """Of `subprocess.Popen`."""

    stdout: File


class OutputKeywords(CommonKeywords, total=False):
    """Of `subprocess.check_output`."""

    timeout: float | None


class RunKeywords(PopenKeywords, total=False):
    """Of `subprocess.run`."""

    capture_output: bool
    check: bool
    timeout: float | None


class CallKeywords(PopenKeywords, total=False):
    """Of `subprocess.call` and `subprocess.check_call`."""

    timeout: float | None
    text: bool | None
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None
