"""What goes into the jail and what comes out: jobs, commands, limits, outcomes.

A *job* is one run of a trusted Python runner (``olmeval/sandbox/inside/<runner>.py``) in one or
two isolated processes; a *command* is a folder of files and a list of programs to run in it. An
*outcome* says what the outside saw happen; what it means for a benchmark is a verdict's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MIB = 1 << 20

# exited: ended by itself, with a code. signal: killed by a signal of its own making. blocked: the
# kernel killed it for a forbidden system call. infrastructure: the jail failed, not the program.
Status = Literal["exited", "timeout", "memory", "signal", "blocked", "infrastructure"]
STATUSES: tuple[Status, ...] = (
    "exited", "timeout", "memory", "signal", "blocked", "infrastructure"
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What one run may use. ``memory`` and ``processes`` count the whole tree of processes."""

    seconds: float = 3.0  # of wall time; time spent waiting for a core is not counted
    memory: int = 1024 * MIB  # bytes
    processes: int = 32  # threads count too
    file_bytes: int = 16 * MIB  # /tmp and /dev/shm together
    inodes: int = 1000  # files and folders in them
    output_bytes: int = 64 * 1024  # kept of stdout and of stderr each: first and last half
    address_space: bool = True  # ``memory`` also limits each process's virtual memory


@dataclass(frozen=True)
class Role:
    """One isolated process: a runner of ``olmeval/sandbox/inside`` and what it reads.

    ``olmeval/sandbox/inside/__init__.py`` says what a runner is. Hashes of strings are the same in
    every process (``PYTHONHASHSEED=0``), so that the order of a set never decides a verdict.
    """

    runner: str
    payload: bytes


@dataclass(frozen=True)
class Job:
    """One run of one role, or of two that are joined by a socket pair.

    Of two, the first is the trusted one: the run ends when it ends, and the second is killed.
    """

    key: str
    roles: tuple[Role, ...]
    limits: Limits = field(default_factory=Limits)
    environment: str | None = None  # folder of a virtual environment, bound read-only


@dataclass(frozen=True)
class Step:
    """One program of a :class:`Command`; ``argv[0]`` is looked up in ``PATH`` inside the jail."""

    argv: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    stdin: bytes = b""


@dataclass(frozen=True)
class Command:
    """Files in a fresh ``/tmp/work`` and programs run there in turn (compile, run).

    The steps share the folder and nothing else; the first that does not exit with 0 is the last.
    Room for files is that of the step that has most.
    """

    key: str
    files: Mapping[str, bytes]  # relative path -> content
    steps: tuple[Step, ...]
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables
    mounts: tuple[str, ...] = ()  # host folders outside /usr that are needed, bound read-only


@dataclass(frozen=True)
class Part:
    """What became of one role or step."""

    status: Status
    code: int | None = None  # exit code, where it exited
    signal: int | None = None  # where a signal ended it
    report: bytes = b""  # what the runner wrote to its report pipe (roles only)
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0  # wall time
    cpu_seconds: float = 0.0  # of the main process and the children it waited for
    max_rss: int = 0  # bytes, of the largest process


@dataclass(frozen=True)
class Outcome:
    """What the outside saw of one job or command; ``parts`` follow its roles or steps.

    ``parts`` is empty where the worker was lost. Steps that never started have none.
    """

    key: str
    status: Status  # of the first part that did not exit with 0, else "exited"
    parts: tuple[Part, ...] = ()
    tier: str = ""  # T1, T2 or T3
    detail: str = ""  # one sentence, where something needs to be said

    @property
    def report(self) -> bytes:
        """The report of the first role."""
        return self.parts[0].report if self.parts else b""
