"""A rank of a preflight whose last rank is slow, wrong, absent or, to compare, well.

torchrun --nproc-per-node 2 tests/trainer/preflight_rank.py slow
"""

import os
import sys
from datetime import timedelta

import torch

from olmeval.errors import UserError
from olmeval.trainer import preflight


def main(fault: str) -> None:
    """Prints the report on rank 0, or what went wrong."""
    right, last = preflight.product, int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1

    def slow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        for _ in range(31):  # slow beside what else the machine does, too
            right(a, b)
        return right(a, b)

    def wrong(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        c = right(a, b)
        c[3, 5] += 1  # one wrong number
        return c

    if fault == "absent":
        preflight.PATIENCE = timedelta(seconds=5)
    if last and fault == "absent":
        preflight._await_all = lambda world: sys.exit(0)
    elif last and fault != "none":
        preflight.product = {"slow": slow, "wrong": wrong}[fault]
    try:
        report = preflight.preflight("cpu", seconds=0.5, slow=0.4)
    except UserError as error:
        if not last:
            print(f"error: {error}")
        return
    if report is not None:
        print(report.text())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
