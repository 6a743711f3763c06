"""The executors by name."""

from olmeval.errors import UserError, nearest
from olmeval.executors.base import Executor

EXECUTORS = ("process", "local", "ray")


def make_executor(
    name: str,
    workers: int | None = None,
    *,
    gpus_per_worker: float | None = None,
    threads: int | None = None,
    address: str | None = None,
) -> Executor:
    """An executor: "process" runs jobs here, "local" on this machine's worker processes, "ray" on
    a cluster's.

    ``gpus_per_worker`` may be a fraction below 1: several workers share a GPU. ``threads`` is for
    each worker. ``address`` is a Ray cluster's ("auto", "ray://host:10001", "host:6379"); without
    one, and without ``RAY_ADDRESS``, Ray starts on this machine. Defaults fill the machine, or the
    cluster: see :class:`LocalPool` and :class:`RayPool`. Raises :class:`UserError` for an unknown
    name and for settings that contradict it or each other.
    """
    if name not in EXECUTORS:
        raise UserError(
            f"unknown executor '{name}'{nearest(name, EXECUTORS)}; there are {', '.join(EXECUTORS)}"
        )
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    if threads is not None and threads < 1:
        raise UserError(f"{threads} threads a worker: at least 1 is needed")
    share = gpus_per_worker
    if share is not None and not (0 <= share <= 1 or (share > 1 and share % 1 == 0)):
        raise UserError(
            f"--gpus-per-worker {share:g}: a whole number, or a fraction between 0 and 1"
        )
    if address is not None and name != "ray":
        raise UserError(f"--ray-address is for --executor ray, not for '{name}'")
    if name == "process":
        if (workers or 1) > 1 or share is not None:
            raise UserError(
                "--executor process has one worker, with all GPUs; for more use --executor local"
            )
        from olmeval.executors.inprocess import InProcess

        return InProcess()
    if name == "local":
        from olmeval.executors.local import LocalPool

        return LocalPool(workers, gpus_per_worker=share, threads=threads)
    from olmeval.executors.rays import RayPool

    return RayPool(workers, gpus_per_worker=share, threads=threads, address=address)
