"""What the agent is at when a call is broken, and the hosts on which it is."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from releasehand.model.status import OperationKind, Phase
from shared.frames import Execute, Ref
from tests.fakes.archives import directory, file, hardlink, symlink, tgz
from tests.fakes.origin import Origin, content
from tests.faults import service_program
from tests.faults.injection.slot import Slot
from tests.faults.order import INSTANCE, SERVICE, Order

GOOD: Final = {"v1": "good", "v2": "good"}
MANNERS: Final = {**GOOD, "v3": "sick"}


class Scene(StrEnum):
    """Work that a fault comes into."""

    DEPLOYMENT = "deployment"  # of v2, v1 is live
    ROLLBACK = "rollback"  # to the kept v1, v2 is live
    UNPACK_AGAIN = "recovery, unpacked"  # killed with v2 in .staging
    SWITCH_AGAIN = "recovery, switched"  # killed after v2 became current, before its restart
    REVERT_AGAIN = "recovery, reverting"  # killed when v3 had failed its check


@dataclass(frozen=True)
class Plot:
    """How a scene begins and may end. `before` was deployed in that order, the last one up to the point
    `killed_at`; `runs` is the version whose process is there."""

    before: tuple[str, ...]
    target: str
    previous: str
    runs: str
    killed_at: str = ""
    kind: OperationKind = OperationKind.DEPLOYMENT
    ends: Phase = Phase.DONE
    """How it ends when nothing goes wrong with the host."""

    @property
    def generation(self) -> int:
        """Of the work that the fault comes into."""
        return len(self.before) + (not self.killed_at)


PLOTS: Final[Mapping[Scene, Plot]] = {
    Scene.DEPLOYMENT: Plot(("v1",), "v2", "v1", "v1"),
    Scene.ROLLBACK: Plot(("v1", "v2"), "v1", "v2", "v2", kind=OperationKind.ROLLBACK),
    Scene.UNPACK_AGAIN: Plot(("v1", "v2"), "v2", "v1", "v1", killed_at="unpacked"),
    Scene.SWITCH_AGAIN: Plot(("v1", "v2"), "v2", "v1", "v1", killed_at="switched"),
    Scene.REVERT_AGAIN: Plot(
        ("v1", "v3"), "v3", "v1", "", killed_at="reverting:entered", ends=Phase.REVERTED
    ),
}


@dataclass(frozen=True)
class Package:
    """A package at the origin, and the tree that must come of it: content by path, targets of links."""

    version: str
    url: str
    sha256: str
    files: Mapping[str, bytes]
    links: Mapping[str, str]

    @property
    def release(self) -> str:
        return f"{self.version}-{self.sha256[:12]}"


def publish(
    origin: Origin, version: str, manner: str, *, weight_bytes: int = 3_000, more_files: int = 0
) -> Package:
    """Put a package at the origin that holds a bit of everything."""
    weight = hashlib.shake_128(version.encode()).digest(weight_bytes)
    program = Path(service_program.__file__).read_bytes()
    release = f"{version} {manner}\n".encode()
    more = {f"more/{number}.txt": f"{number} of {version}\n".encode() * 100 for number in range(more_files)}
    data = tgz(
        file("serve.py", program, mode=0o755),
        file("release.txt", release),
        directory("lib"),
        file("lib/weight.bin", weight),
        file("lib/deep/er/note", b"deep\n"),
        hardlink("lib/again", "release.txt"),
        symlink("newest", "lib/weight.bin"),
        *[file(name, content_) for name, content_ in more.items()],
    )
    return Package(
        version,
        origin.serve(f"/{version}.tar.gz", content(data)),
        hashlib.sha256(data).hexdigest(),
        {
            "serve.py": program,
            "release.txt": release,
            "lib/weight.bin": weight,
            "lib/deep/er/note": b"deep\n",
            "lib/again": release,
            **more,
        },
        {"newest": "lib/weight.bin"},
    )


def command(package: Package, generation: int, kind: OperationKind = OperationKind.DEPLOYMENT) -> Execute:
    """As the controller would send it."""
    rollback = kind is OperationKind.ROLLBACK
    return Execute(
        ref=Ref(instance_id=INSTANCE, generation=generation, task=generation, attempt=1),
        kind=kind,
        operation_id=f"operation-{generation}",
        service=SERVICE,
        version=package.version,
        url="" if rollback else package.url,
        sha256="" if rollback else package.sha256,
        seconds_left=86_400,  # counted from the template on, while all its copies are broken one by one
    )


@dataclass(frozen=True)
class Stage:
    """A host at the beginning of a scene, to be copied for each fault."""

    plot: Plot
    template: Path
    packages: Mapping[str, Package]
    ca_file: str

    def copy(self, folder: Path) -> None:
        """Make `folder` that host."""
        shutil.copytree(self.template, folder, symlinks=True)

    def order(self, folder: Path, port: int) -> Order:
        """What is to be done to the copy in `folder`; no fault is in it yet."""
        plot = self.plot
        asked = command(self.packages[plot.target], plot.generation, plot.kind)
        return Order(
            folder=str(folder),
            port=port,
            ca_file=self.ca_file,
            command=asked.model_dump_json(),
            runs=self.packages[plot.runs].release if plot.runs else "",
            at_start=bool(plot.killed_at),
        )


async def set_stage(scene: Scene, origin: Origin, slot: Slot, folder: Path) -> Stage:
    """Bring a host to where the scene begins, by the agent itself."""
    plot, template = PLOTS[scene], folder / "template"
    template.mkdir()
    packages = {version: publish(origin, version, manner) for version, manner in MANNERS.items()}
    for number, version in enumerate(plot.before, start=1):
        last = number == len(plot.before)
        order = Order(
            folder=str(template),
            port=slot.port,
            ca_file=str(origin.ca_file),
            command=command(packages[version], number).model_dump_json(),
            runs=packages[plot.before[number - 2]].release if number > 1 else "",
            kill_at=plot.killed_at if last else "",
        )
        code = await slot.carry_out(order, folder / f"before-{number}.json")
        assert bool(code) == bool(order.kill_at), (code, (folder / f"before-{number}.log").read_text())
    (template / "srv" / ".service.json").unlink()  # of a process that is gone
    return Stage(plot, template, packages, str(origin.ca_file))
