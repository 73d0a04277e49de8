"""The build hook of pyproject.toml: a wheel carries the native objects of every architecture.

The wheel stays ``py3-none-any``: it has no extension module, and the objects are data that the
package picks by the machine it finds itself on. On a system without ptrace it installs too, and
the plugin says there what is missing.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface[Any]):
    """Builds outside of the source tree, which may be read-only or hold older objects.

    An editable install is the exception: there the source tree is what will be imported.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.scratch = TemporaryDirectory(prefix="vdsotime-build-")
        scratch = Path(self.scratch.name)
        # zig wants a cache, by default below $HOME, which a build must not need.
        os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(scratch / "zig-cache"))
        script = runpy.run_path(f"{self.root}/native_stub/build.py")
        build: Callable[..., list[Path]] = script["build"]
        if version == "editable":
            build()
            return
        native = scratch / "native"
        for path in build(native):
            inside = path.relative_to(native).as_posix()
            build_data["force_include"][str(path)] = f"pytest_vdsotime/native/{inside}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.scratch.cleanup()
