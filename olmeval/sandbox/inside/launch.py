"""The way into the jail: join the cgroup, give up root, become bubblewrap (or the zygote).

Bubblewrap that root starts leaves a hole: uid 0 of the jail is then the host's root, which owns
the files of /proc/sys. So root becomes a user that owns nothing first. Folders that only root can
reach (an interpreter below /root) are bound to a stage before that, in a mount namespace of this
process's own: ``{i}`` in the command is the i-th of ``stage``.
"""

from __future__ import annotations

import json
import os
import sys

from olmeval.sandbox.inside import system

STAGES = ("/mnt", "/media", "/srv", "/opt", "/tmp")


def main() -> None:
    """Reads its orders from the first argument; ends in another program."""
    orders = json.loads(sys.argv[1])
    for procs in orders["cgroups"]:
        with open(procs, "w") as file:
            file.write("0")
    sources: list[str] = orders["stage"]
    if orders["uid"] is not None:
        if orders["namespaces"]:
            sources = stage(sources)
        os.setgroups([])
        os.setresgid(orders["uid"], orders["uid"], orders["uid"])
        os.setresuid(orders["uid"], orders["uid"], orders["uid"])
    staged = {f"{{{number}}}": path for number, path in enumerate(sources)}
    command = [staged.get(word, word) for word in orders["command"]]
    os.execve(command[0], command, orders["variables"])


def stage(sources: list[str]) -> list[str]:
    """Binds each source, read-only, to a place that everyone can reach; their new paths."""
    system.unshare(system.CLONE_NEWNS)
    system.mount("", "/", "", system.MS_REC | system.MS_PRIVATE)
    held = [os.open(source, os.O_PATH) for source in sources]  # the stage may cover them
    base = next(path for path in STAGES if os.path.isdir(path))
    system.mount("tmpfs", base, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "mode=0755,size=1m")
    paths = []
    for number, descriptor in enumerate(held):
        path = os.path.join(base, str(number))
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
        system.mount(f"/proc/self/fd/{descriptor}", path, "", system.MS_BIND)
        paths.append(path)
        os.close(descriptor)
    return paths


if __name__ == "__main__":
    main()
