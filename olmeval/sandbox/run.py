"""Runs a batch of jobs and commands in the sandbox."""

import os
from collections.abc import Callable, Sequence

from olmeval.errors import UserError
from olmeval.sandbox import jail
from olmeval.sandbox.pool import Kind, Pool, kind_of
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import Command, Job, Outcome

Progress = Callable[[int, int], None]


def run_jobs(
    jobs: Sequence[Job | Command],
    *,
    workers: int | None = None,
    unsafe_local: bool = False,
    progress: Progress | None = None,
    wall: jail.Wall | None = None,
) -> list[Outcome]:
    """The outcome of every job, in the jobs' order, whatever order they end in.

    Args:
        jobs: What to run; their keys are copied to the outcomes and seed their random numbers.
        workers: Jails at a time; by default two for each core of this process, since each is often
            waiting for the kernel or for the other of its processes.
        unsafe_local: Where nothing can contain a program, run it with limits alone instead of
            refusing.
        progress: Called with (finished, all) after every job.
        wall: The tier to use instead of the best that :func:`probe` finds.

    Raises:
        UserError: Nothing here can contain a program; an environment or mount is not there.
    """
    if not jobs:
        return []
    if wall is None:
        tier = probe()
        if tier.name == "T3" and not unsafe_local:
            raise UserError(
                "nothing on this machine can contain a program ("
                + "; ".join(tier.reasons)
                + "); set this up, or pass --unsafe-local to run programs with limits alone"
            )
        wall = tier.wall
    outcomes: list[Outcome | None] = [None] * len(jobs)
    done = 0
    kinds: dict[Kind, list[int]] = {}
    for index, job in enumerate(jobs):
        kinds.setdefault(kind_of(job), []).append(index)
    for kind, indices in kinds.items():

        def finished(number: int, outcome: Outcome, indices: list[int] = indices) -> None:
            nonlocal done
            outcomes[indices[number]] = outcome
            done += 1
            if progress is not None:
                progress(done, len(jobs))

        batch = [jobs[index] for index in indices]
        runners = {role.runner for job in batch if isinstance(job, Job) for role in job.roles}
        count = min(workers or 2 * len(os.sched_getaffinity(0)), len(batch))
        preload = _preload(kind.environment)
        with Pool(wall, count, kind, runners=sorted(runners), preload=preload) as pool:
            pool.run(batch, finished)
    return [outcome for outcome in outcomes if outcome is not None]


def _preload(environment: str | None) -> list[str]:
    if environment is None:
        return []
    from olmeval.sandbox.environments import preload_of

    return preload_of(environment)
