"""How a worker's jail is put together: which Python, which folders, which command line.

Tier T1 is bubblewrap around the zygote: user, process, mount, IPC, network and host-name
namespaces; of the host's files /usr, the interpreter and what a job names, all read-only. Tier T2
is the zygote itself, for machines without user namespaces: each run fences itself in with
Landlock. In both, whoever is root becomes a user that owns nothing first.
"""

import functools
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmeval.errors import UserError

INSIDE = Path(__file__).parent / "inside"
HOME = "/jail"  # inside: folder of the package's modules
HIDDEN = ("/tmp", "/dev", "/proc", "/jail")  # inside, these are the jail's own
SPARE_UID = 60600  # systemd's list of user ids has 60578 to 61183 as unused; one for each worker
SPARE_UIDS = 500
OLDEST = (3, 9)  # Python whose os module has pidfd_open
SCRATCH_BYTES = 16 << 20
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache")
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
         "stderr": "/proc/self/fd/2", "shm": "/tmp"}  # fmt: skip
VARIABLES = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8",
    # The same order of sets in every worker; one thread where many programs run beside another.
    "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg",
}  # fmt: skip
START = (
    "import sys; sys.path[:] = [{home!r}] + [p for p in sys.path if p]; "
    "from olmeval.sandbox.inside.{module} import main; main()"
)


@dataclass(frozen=True)
class Runtime:
    """An interpreter: the folder that holds all of it, its program, and further packages."""

    prefix: Path
    executable: Path
    packages: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Wall:
    """A tier's means: what :func:`olmeval.sandbox.tiers.probe` found, or a test asks for."""

    name: str
    namespaces: bool
    landlock: int = 0  # version
    memory_group: bool = True


@functools.cache
def runtime(environment: str | None = None) -> Runtime:
    """This interpreter, or that of a virtual environment with the environment's packages.

    Raises :class:`UserError` for a folder that is no virtual environment.
    """
    if environment is None:
        return Runtime(Path(sys.base_prefix).resolve(), Path(sys.executable).resolve())
    folder = Path(environment)
    executable = folder / "bin" / "python"
    packages = sorted(folder.resolve().glob("lib/python3*/site-packages"))
    if not (folder / "pyvenv.cfg").is_file() or not executable.exists() or not packages:
        raise UserError(
            f"'{environment}' is not a virtual environment (no pyvenv.cfg, bin/python or "
            "site-packages); create it with `python -m venv`"
        )
    version = packages[0].parent.name.removeprefix("python").rstrip("t")  # t: free threads
    if tuple(map(int, version.split("."))) < OLDEST:
        raise UserError(
            f"'{environment}' has Python {version}, and the sandbox runs 3.9 or newer; "
            "create it with a newer interpreter"
        )
    real = executable.resolve()
    return Runtime(real.parent.parent, real, tuple(packages))


def reachable(path: Path) -> bool:
    """Whether a user that owns nothing can read a file, or a folder and what is below it."""
    modes = [parent.stat().st_mode for parent in (path, *path.parents)]
    return bool(modes[0] & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in modes)


def _reachable_runtime(python: Runtime) -> Runtime:
    """Without a mount namespace nothing can be shown that is not open to everyone already."""
    if all(map(reachable, (python.prefix, python.executable, *python.packages))):
        return python
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    if python.packages or system is None:
        raise UserError(
            f"'{python.executable}' cannot be read by the user that programs run as; "
            "move it out of folders that are closed to others, or run as an unprivileged user"
        )
    executable = Path(system).resolve()
    return Runtime(executable.parent.parent, executable)


def place(path: Path, number: int) -> str:
    """Where a host folder is found inside: at its own path, unless the jail hides that."""
    hidden = any(path == Path(h) or Path(h) in path.parents for h in HIDDEN)
    return f"{HOME}/bound/{number}" if hidden else str(path)


@dataclass(frozen=True)
class Binding:
    """A host folder or file, and its path inside."""

    source: Path
    inside: str


def bindings(python: Runtime, mounts: Iterable[str]) -> list[Binding]:
    """What must be bound beside the system's folders. Raises :class:`UserError`."""
    wanted = [python.prefix, *python.packages]
    for mount in mounts:
        if not Path(mount).exists():
            raise UserError(f"'{mount}' does not exist, so the sandbox cannot show it to programs")
        wanted.append(Path(mount).resolve())
    outer: list[Path] = []
    for path in sorted(set(wanted)):
        if path == Path("/"):
            raise UserError("the sandbox does not show all of '/' to programs; name a folder")
        if not any(parent in (Path("/usr"), *outer) for parent in (path, *path.parents)):
            outer.append(path)
    return [Binding(path, place(path, number)) for number, path in enumerate(outer)]


def translate(path: Path, bound: Sequence[Binding]) -> str:
    """The path inside of a host path."""
    for binding in bound:
        if path == binding.source or binding.source in path.parents:
            return str(Path(binding.inside) / path.relative_to(binding.source))
    return str(path)


def bubblewrap(bound: Sequence[Binding], command: Sequence[str]) -> list[str]:
    """The command line of tier T1; ``{i}`` stands for the i-th bound folder's staged path."""
    words = [
        str(shutil.which("bwrap")), "--unshare-user", "--unshare-pid", "--unshare-ipc",
        "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent",
        "--new-session", "--hostname", "jail", "--uid", "0", "--gid", "0", "--cap-drop", "ALL",
        # For making each run's namespaces, and for giving everything up in them.
        "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SYS_CHROOT", "--cap-add", "CAP_SYS_PTRACE",
        "--cap-add", "CAP_SETPCAP",
        "--ro-bind", "/usr", "/usr",
    ]  # fmt: skip
    for name in SYSTEM:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for name in SETTINGS:
        words += ["--ro-bind-try", name, name]
    words += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--tmpfs", "/dev"]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in LINKS.items():
        words += ["--symlink", target, f"/dev/{name}"]
    words += ["--remount-ro", "/dev"]
    # For what the zygote imports; every run has a /tmp of its own in its place.
    words += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]
    for number, binding in enumerate(bound):
        words += ["--ro-bind", f"{{{number}}}", binding.inside]
    return [*words, "--remount-ro", "/", "--chdir", "/", "--", *command]


def orders(
    wall: Wall,
    *,
    slot: int,
    host_socket: int,
    oom_counter: int,
    cgroups: Sequence[str],
    scratch: str,
    runners: Sequence[str],
    environment: str | None = None,
    mounts: Sequence[str] = (),
    preload: Sequence[str] = (),
) -> dict[str, Any]:
    """What ``inside/launch.py`` is told. File descriptors are numbers that it inherits."""
    python = runtime(environment)
    uid = SPARE_UID + (os.getpid() + slot) % SPARE_UIDS if os.geteuid() == 0 else None
    if not wall.namespaces and uid is not None:
        python = _reachable_runtime(python)
    bound = bindings(python, mounts)
    if wall.namespaces:
        bound = [*bound, Binding(INSIDE, f"{HOME}/olmeval/sandbox/inside")]
        home = HOME
    else:
        home = os.path.join(scratch, "jail")
        shutil.copytree(INSIDE, os.path.join(home, "olmeval/sandbox/inside"))
    zygote = {
        "socket": host_socket,
        "oom_counter": oom_counter,
        "scratch": scratch,
        "path": [translate(path, bound) for path in python.packages],
        "runners": list(runners),
        "preload": list(preload),
        "jail": {
            "namespaces": wall.namespaces,
            "landlock": wall.landlock,
            "read": ["/usr", *SYSTEM, *SETTINGS, *(b.inside for b in bound), home],
            "write": [f"/dev/{name}" for name in DEVICES],
            "processes": 8 if wall.namespaces or uid is not None else _own_processes() + 8,
        },
    }
    start = START.format(home=home, module="spawner" if wall.namespaces else "zygote")
    command = [translate(python.executable, bound), "-s", "-S", "-B", "-c", start]
    command.append(json.dumps(zygote))
    return {
        "namespaces": wall.namespaces,
        "uid": uid,
        "cgroups": list(cgroups),
        "stage": [str(binding.source) for binding in bound] if wall.namespaces else [],
        "command": bubblewrap(bound, command) if wall.namespaces else command,
        "variables": VARIABLES,
    }


def _own_processes() -> int:
    """Threads of this user, which the kernel counts together with those of a run."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/task/*"):
        try:
            count += status.stat().st_uid == os.geteuid()
        except OSError:
            continue
    return count
