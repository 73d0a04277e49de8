"""What the tracer needs of the package's native objects and of the host, read once.

A kernel may run more than one kind of program (arch/): the objects for its own kind are read at the
start, those for another when the first such program comes, as its vDSO can only be read there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_vdsotime import faults, image
from pytest_vdsotime.arch import Arch
from pytest_vdsotime.errors import TracingUnavailable
from pytest_vdsotime.kernel.spawn import Spawner
from pytest_vdsotime.kernel.takeover import MAX_BLOCK
from pytest_vdsotime.tracer.calls import Calls


class RealTime(Exception):
    """The program cannot be given the clock and runs on without it; the text says why."""


class ProgramAbi(NamedTuple):
    """What takeovers of one kind of program need."""

    arch: Arch
    loader: image.Loader
    host: image.HostVdso
    fake: image.VdsoImage
    jumps: image.Detour
    """How the kernel's image leads to the fake one."""
    targets: tuple[int, ...]
    """Of its jumps, in the fake image."""
    has_room: bool
    """For the loader too, behind the jumps."""

    @classmethod
    def of(cls, arch: Arch, fake: image.VdsoImage, host: image.HostVdso) -> ProgramAbi:
        """Raise TracingUnavailable when an object is missing or the kernel's vDSO is not known."""
        image.check_symbols(fake, host)
        loader = image.Loader.of(arch)
        jumps = image.jumps(host, len(loader.code))
        targets = tuple(fake.offset(name) or 0 for name in jumps.names)
        has_room = jumps.end + len(loader.code) <= min(host.size, MAX_BLOCK)
        return cls(arch, loader, host, fake, jumps, targets, has_room)

    def detour(self, fake_address: int) -> bytes:
        """Return what stands in place of the kernel's image in a program.

        Its fake image is at `fake_address`. Absolute addresses, as a program may move the kernel's
        image.
        """
        jump = self.arch.jump
        return self.jumps.image + b"".join([jump(fake_address + one) for one in self.targets])


@dataclass(frozen=True, slots=True)
class NativeObjects:
    """All of them."""

    arch: Arch
    waker: image.WakerProgram
    spawner: Spawner
    calls: Calls
    fakes: Mapping[str, image.VdsoImage]
    """By the kind of program, that of the host first."""
    _kinds: dict[str, ProgramAbi] = field(default_factory=dict)

    @classmethod
    def load(cls, arch: Arch) -> NativeObjects:
        """Raise TracingUnavailable when an object is missing or the kernel's vDSO is not known."""
        host = image.HostVdso.of_process("self", arch)
        fakes = {
            one.name: image.fake_vdso(one).of_release(host.image) for one in (arch, *arch.runs_too)
        }
        own = ProgramAbi.of(arch, fakes[arch.name], host)
        spawner = Spawner(image.tracer_path(arch))
        return cls(arch, image.WakerProgram.of(arch), spawner, Calls(arch), fakes, {arch.name: own})

    @property
    def own(self) -> ProgramAbi:
        """What is needed for programs of the host's own kind."""
        return self._kinds[self.arch.name]

    @property
    def kinds(self) -> Iterable[ProgramAbi]:
        """What is known so far."""
        return self._kinds.values()

    @property
    def images(self) -> Mapping[str, bytes]:
        """Of the fake vDSO, for a clock's page."""
        return {name: fake.data for name, fake in self.fakes.items()}

    def kind_of(self, registers: Any, pid: int) -> ProgramAbi:
        """Return what is needed for the program with these registers, stopped at its exec.

        Raises RealTime: there is nothing for it.
        """
        for arch in (self.arch, *self.arch.runs_too):
            if arch.runs_in(registers):
                kind = self._kinds.get(arch.name)
                return self._read(arch, pid) if kind is None else kind
        raise RealTime(f"it is not a program for {self.arch.name}")

    def _read(self, arch: Arch, pid: int) -> ProgramAbi:
        if faults.armed:
            faults.reach("vdso", pid)
        try:
            host = image.HostVdso.of_process(pid, arch)
            kind = self._kinds[arch.name] = ProgramAbi.of(arch, self.fakes[arch.name], host)
        except TracingUnavailable as error:
            raise RealTime(str(error)) from None
        return kind
