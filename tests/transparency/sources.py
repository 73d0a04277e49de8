"""Where the suites come from: Debian's archive, by the machine's own package sources, PyPI, npm.

Nothing of the system is changed: apt gets its lists, its sources and its archives from WORK. All
that is unpacked and built is made once, by the user that runs the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

NOBODY = 65534
"""Root runs the tests as this user: tests of others may set the clock, mount or end processes."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotToBeHad(Exception):
    """A suite that this machine cannot get or build, and why."""


@dataclass
class Workshop:
    """The directory that holds the sources and what is made of them."""

    work: Path
    as_nobody: bool = field(default_factory=lambda: os.geteuid() == 0)

    def user(self) -> dict[str, Any]:
        """Return the keywords of Popen that choose the user of builds and tests."""
        if not self.as_nobody:
            return {}
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}

    def tree(self, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
        """Return the tree `name` and its version, which `make(tree)` fills and names once."""
        tree, stamp = self.work / name, self.work / f"{name}.version"
        if not stamp.exists():
            shutil.rmtree(tree, ignore_errors=True)
            tree.mkdir(parents=True)
            stamp.write_text(make(tree))
        return tree, stamp.read_text()

    def build(self, tree: Path, script: str, **variables: str) -> None:
        """Run a script of bash in the tree, as the user that runs the tests."""
        if self.as_nobody:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", tree], check=True)
        log = tree.parent / f"{tree.name}.log"
        with open(log, "wb") as output:
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", script],
                cwd=tree,
                env={"PATH": PATH, "HOME": str(tree), "LC_ALL": "C.UTF-8", **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **self.user(),
            )
        if done.returncode != 0:
            raise NotToBeHad(f"it does not build here: {log}")

    # Debian's archive.

    @cached_property
    def _apt_options(self) -> list[str]:
        """Options that show apt the machine's package sources, those of source packages too."""
        if not shutil.which("apt-get"):
            raise NotToBeHad("this machine has no apt-get")
        apt = self.work / "apt"
        shutil.rmtree(apt / "sources", ignore_errors=True)
        for part in ("sources", "lists/partial", "archives/partial"):
            (apt / part).mkdir(parents=True, exist_ok=True)
        for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
            if path.suffix in (".list", ".sources") and path.is_file():
                (apt / "sources" / path.name).write_text(with_source_packages(path.read_text()))
        settings = {
            "APT::Sandbox::User": "root",  # the directories are closed to _apt
            "APT::Install-Recommends": "false",
            "Debug::NoLocking": "true",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": str(apt / "sources"),
            "Dir::State::lists": str(apt / "lists"),
            "Dir::Cache": str(apt),
            "Dir::Cache::archives": str(apt / "archives"),
        }
        options = [f"-o={name}={value}" for name, value in settings.items()]
        # It is no failure that one of the machine's sources has no source packages.
        subprocess.run(["apt-get", *options, "-qq", "update"], capture_output=True)
        return options

    def _source_versions(self, package: str) -> list[str]:
        """Return the versions of a source package, the newest first."""
        command = ["apt-cache", *self._apt_options, "showsrc", "--only-source", package]
        said = subprocess.run(command, capture_output=True, text=True).stdout
        versions = set(re.findall(r"^Version: (\S+)$", said, re.MULTILINE))
        ordered: list[str] = []
        for version in versions:
            place = sum(is_newer(other, version) for other in ordered)
            ordered.insert(place, version)
        return ordered

    def debian_source(self, package: str, into: Path) -> str:
        """Unpack a source package, as its authors made it, and return Debian's version.

        It is the newest one that is to be had: a mirror may lack some files.
        """
        for version in self._source_versions(package):
            target = into.with_name(f"{into.name}.download")
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            command = ["apt-get", *self._apt_options, "-qq", "--download-only", "--tar-only"]
            command += ["--only-source", "source", f"{package}={version}"]
            if subprocess.run(command, cwd=target, capture_output=True).returncode == 0:
                (archive,) = target.glob("*.orig.tar.*[!c]")  # not its signature, .asc
                unpack(archive, into)
                shutil.rmtree(target)
                return version
        raise NotToBeHad(f"Debian's source package {package} is not to be had from this machine")

    # Other registries.

    def node(self, version: str) -> str:
        """Return the path of a Node.js of one version: the machine's, or a package of npm."""
        own = shutil.which("node", path=PATH)
        if own and subprocess.check_output([own, "--version"], text=True).strip() == f"v{version}":
            return own
        machine = {"x86_64": "x64", "aarch64": "arm64"}[os.uname().machine]

        def make(tree: Path) -> str:
            package = f"node-linux-{machine}@{version}"
            done = subprocess.run(["npm", "pack", package], cwd=tree, capture_output=True)
            if done.returncode != 0:
                raise NotToBeHad(f"npm has no {package}")
            (archive,) = tree.glob("*.tgz")
            unpack(archive, tree)
            archive.unlink()
            return version

        return str(self.tree(f"node-{version}", make)[0] / "bin" / "node")

    def pypi(self, name: str, python: str, requirements: list[str]) -> Path:
        """Return a directory of modules from PyPI, for that Python."""

        def make(tree: Path) -> str:
            command = [sys.executable, "-m", "pip", "--python", python, "install", "-qq"]
            command += ["--target", str(tree), *requirements]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise NotToBeHad(done.stderr)
            return " ".join(requirements)

        return self.tree(name, make)[0]


def with_source_packages(sources: str) -> str:
    """Return the text of a file of package sources that names source packages too."""

    def lines() -> Iterator[str]:
        for line in sources.splitlines():
            if line.startswith("Types:"):
                yield "Types: deb deb-src"
            else:
                yield line
                if re.match(r"deb\s", line):
                    yield f"deb-src{line[3:]}"

    return "\n".join(lines()) + "\n"


def is_newer(one: str, other: str) -> bool:
    """Whether a version of a Debian package is newer than another one."""
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other]).returncode == 0


def unpack(archive: Path, into: Path) -> None:
    """Unpack what lies below the one directory of an archive."""
    with tarfile.open(archive) as tar:
        members = []
        for member in tar.getmembers():
            _, _, member.name = member.name.partition("/")
            if member.islnk():
                _, _, member.linkname = member.linkname.partition("/")
            if member.name:
                members.append(member)
        into.mkdir(exist_ok=True)
        tar.extractall(into, members, filter="tar")
