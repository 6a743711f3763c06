"""Becomes an unprivileged user that can still read the interpreter and the package.

Run by root as ``python nobody.py UID PATH[:PATH...] -- PROGRAM ARG...``. Folders that are closed
to others (such as /root) are covered, in a mount namespace of this process alone, by an empty one
in which only the given paths are seen.
"""

import os
import sys
from pathlib import Path

from olmeval.sandbox.inside import system
from olmeval.sandbox.jail import reachable

IMPOSSIBLE = 77


def closed_ancestor(path: Path) -> Path:
    """The outermost folder above ``path`` that others may not enter."""
    return next(p for p in [*reversed(path.parents), path] if not p.stat().st_mode & 1)


def main() -> None:
    uid, paths = int(sys.argv[1]), [Path(p).resolve() for p in sys.argv[2].split(":")]
    command = sys.argv[sys.argv.index("--") + 1 :]
    try:
        system.unshare(system.CLONE_NEWNS)
    except PermissionError:
        sys.exit(IMPOSSIBLE)  # root of a container
    system.mount("", "/", "", system.MS_REC | system.MS_PRIVATE)
    hidden = {path: closed_ancestor(path) for path in paths if not reachable(path)}
    held = {path: os.open(path, os.O_PATH) for path in hidden}
    for folder in set(hidden.values()):
        system.mount("tmpfs", str(folder), "tmpfs", 0, "mode=0755,size=1m")
    for path, descriptor in held.items():
        path.mkdir(parents=True, exist_ok=True)
        system.mount(f"/proc/self/fd/{descriptor}", str(path), "", system.MS_BIND)
        os.close(descriptor)
    os.umask(0o022)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.chdir("/")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
