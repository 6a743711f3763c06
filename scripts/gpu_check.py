"""Everything that needs a GPU, in ten minutes on one card and without a network.

    PYTHONPATH=. python scripts/gpu_check.py [--write] [--only STEP ...]

Needs PyTorch and transformers, no installation. Every step runs in a process of its own with a time
limit; one that fails is reported as failed, and the others go on. Prints a table beside the card's
own measured rate of matrix products; --write appends it to docs/benchmarks.md, and where $OUT names
a folder, gpu_check.json, gpu_check.md and profiles go there, step by step. --device cpu --tiny
tries the script itself on a processor, with sizes of which no figure means anything.
"""

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gpu_steps
import torch
from gpu_steps import Figure, Setting

ROOT = Path(__file__).resolve().parents[1]
# Seconds that a step may take, in the order in which they run: what matters most comes first.
LIMITS = {
    "card": 40,
    "parity": 60,
    "attention": 60,
    "resume": 90,
    "train-30m": 90,
    "train-190m": 90,
    "train-1b": 110,
    "swarm-1-worker": 150,
    "swarm-2-workers": 150,
    "scoring": 80,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: tries the script itself")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS), metavar="STEP",
                        help=f"these steps alone: {', '.join(LIMITS)}")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=9.5, help="for all steps together")
    parser.add_argument("--write", action="store_true", help="append to docs/benchmarks.md")
    args = parser.parse_args()
    if problem := missing(args.device):
        print(f"gpu_check: {problem}", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * args.minutes
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        setting = Setting(args.device, args.tiny, Path(folder))
        for step in (name for name in LIMITS if name in args.only):
            started = time.monotonic()
            limit = min(LIMITS[step], deadline - started)
            found = run_step(step, setting, limit)
            setting = replace(setting, product=next((
                f.value for f in found if f.name == gpu_steps.PRODUCT), setting.product
            ))  # fmt: skip
            figures += found
            for figure in found:
                print(line(figure), flush=True)
            print(f"  ({step}: {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
            report(figures, card(figures), write=False)
    report(figures, card(figures), write=args.write)
    return 1 if any(figure.verdict in ("failed", "MISSED") for figure in figures) else 0


def missing(device: str) -> str:
    """What this machine lacks, in a sentence; empty if it has all."""
    for package, least in (("torch", (2, 11)), ("transformers", (5, 17))):
        found = version(package)
        if tuple(int(part) for part in found.split(".")[:2]) < least:
            return f"{package} is {found}; install {least[0]}.{least[1]} or later"
    if device == "cpu":
        return ""
    # In a process of its own: once CUDA has been asked for here, forked steps could not use it.
    process = multiprocessing.get_context("fork").Process(target=find_card)
    process.start()
    process.join()
    if process.exitcode == 0:
        return ""
    return (
        "PyTorch finds no CUDA device, so there is nothing to measure; run it on a machine with a "
        "GPU, or try the script itself with --device cpu --tiny"
    )


def find_card() -> None:
    """Ends its process with 0 if there is a CUDA device."""
    sys.exit(0 if torch.cuda.is_available() else 1)


def run_step(step: str, setting: Setting, limit: float) -> list[Figure]:
    """The figures of one step, or one that says how it failed.

    A forked process: torch is imported already, and no device is open yet. It leads a group, so
    that what it starts ends with it.
    """
    if limit < 1:
        return [Figure(step, step, None, "", verdict="failed", note="no time was left")]
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(step, setting, theirs))
    process.start()
    theirs.close()
    found: list[Figure] = []
    problem, until = f"not done in {limit:.0f} s", time.monotonic() + limit
    try:
        while ours.poll(max(0.0, until - time.monotonic())):
            message = ours.recv()
            if isinstance(message, Figure):
                found.append(message)
            else:
                problem = message
                break
    except EOFError:
        process.join(5)
        problem = f"its process ended with code {process.exitcode}"
    assert process.pid
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # should it not lead its group yet
    process.join()
    if problem:
        found.append(Figure(step, step, None, "", verdict="failed", note=problem))
    return found


def child(step: str, setting: Setting, connection: Connection) -> None:
    """Sends each figure of a step when it is there, then "", or why there is none."""
    os.setsid()
    try:
        for figure in gpu_steps.STEPS[step](setting):
            connection.send(figure)
        connection.send("")
    except BaseException as error:
        traceback.print_exc()
        connection.send(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    finally:
        connection.close()


def card(figures: list[Figure]) -> str:
    """The device as the first step named it."""
    return next((figure.note for figure in figures if figure.name == gpu_steps.PRODUCT), "")


def line(figure: Figure) -> str:
    """A row of the table."""
    value = "" if figure.value is None else f"{figure.value:,.4g} {figure.unit}"
    if figure.value is not None and figure.value >= 1000:
        value = f"{figure.value:,.0f} {figure.unit}"
    goal = "" if figure.goal is None else f"{figure.goal:,.10g}"
    return f"| {figure.name} | {value.strip()} | {goal} | {figure.verdict} | {figure.note} |"


def report(figures: list[Figure], device: str, *, write: bool) -> None:
    """Writes the table to docs/benchmarks.md if asked, and to $OUT where there is one."""
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {version('transformers')}"
    )
    head = f"`make gpu-check`, {date.today()}, {device or 'unknown device'}; {versions}."
    rows = "\n".join(line(figure) for figure in figures)
    text = (
        f"\n## GPU: {device.split(',')[0] or 'unknown device'}, {date.today()}\n\n{head}\n\n"
        f"| | measured | goal | | |\n|-|-:|-:|-|-|\n{rows}\n"
    )
    if out := os.environ.get("OUT"):
        about = {"device": device, "date": str(date.today()), "versions": versions}
        rows_json = [asdict(figure) for figure in figures]
        Path(out, "gpu_check.json").write_text(
            json.dumps({**about, "figures": rows_json}, indent=2) + "\n", encoding="utf-8"
        )
        Path(out, "gpu_check.md").write_text(text, encoding="utf-8")
    if write:
        with (ROOT / "docs/benchmarks.md").open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
