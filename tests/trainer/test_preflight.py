"""Preflight: ranks that are slow, wrong or absent are named, and others are not."""

import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from olmeval.errors import UserError
from olmeval.trainer import preflight
from olmeval.trainer.preflight import Rank, memory_rate, partner, product_rate, suspects

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def test_a_process_alone_is_measured() -> None:
    report = preflight.preflight("cpu", seconds=0.2)
    assert report is not None
    [rank] = report.ranks
    assert (rank.rank, rank.device, rank.wrong, rank.near, rank.far) == (0, "cpu", 0, None, None)
    assert 0.001 < rank.product < 100
    assert 0.1 < rank.memory < 10_000
    assert report.suspects == () and report.all_reduce is None
    assert report.text().endswith("no rank stands out")


def test_rates_count_operations_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "product", lambda a, b: time.sleep(0.005))
    # 2 n^3 operations in 5 ms and a little.
    rate = product_rate(CPU, 0.2, size=100)
    assert 0.5 < rate / (2 * 100**3 / 0.005 / 1e12) <= 1
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *_: time.sleep(0.005))
    # 64 MiB read and 64 MiB written in 5 ms.
    assert 0.5 < memory_rate(CPU, 0.2) / (2 * 2**26 / 0.005 / 1e9) <= 1


def test_one_wrong_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = preflight.product, []

    def sometimes(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        c = right(a, b)
        assert c.abs().max() <= 256 and torch.equal(c, c.round()) and torch.equal(c, c.bfloat16())
        calls.append(1)
        if len(calls) in (2, 5):
            c[7, 0] -= 1
        return c

    monkeypatch.setattr(preflight, "product", sometimes)
    assert preflight.wrong_products(CPU) == 2
    assert len(calls) == preflight.CHECKED


@pytest.mark.parametrize("size", [2, 3, 4, 7, 8, 16])
def test_in_a_tournament_everyone_meets_everyone_once(size: int) -> None:
    met: dict[int, list[int]] = {rank: [] for rank in range(size)}
    for turn in range(size + size % 2 - 1):
        for rank in range(size):
            other = partner(rank, size, turn)
            assert other != rank
            if other is not None:
                assert partner(other, size, turn) == rank
                met[rank].append(other)
    assert all(sorted(others) == [r for r in range(size) if r != rank]
               for rank, others in met.items())  # fmt: skip


def test_suspects_are_named_with_their_share_of_the_median() -> None:
    well = Rank(0, "a", "cuda:0", product=700.0, memory=3000.0, wrong=0, near=400.0, far=50.0)
    ranks = [replace(well, rank=k, product=700.0 + k) for k in range(8)]
    assert list(suspects(ranks, 0.9)) == []
    ranks[5] = replace(well, rank=5, host="b", device="cuda:1", product=350.0, far=20.0, wrong=2)
    # A rank that is alone on its machine has no near partner, and is not slow for that.
    ranks[6] = replace(well, rank=6, near=None)
    assert statistics.median(r.product for r in ranks) == 701.5
    assert list(suspects(ranks, 0.9)) == [
        "rank 5 (b, cuda:1): 2 of 11 known results came out wrong",
        "rank 5 (b, cuda:1): matrix products at 350 TFLOP/s, 50 % of the median 702",
        "rank 5 (b, cuda:1): exchange between machines at 20 GB/s, 40 % of the median 50",
    ]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError, match="'cuda:77' does not work here"):
        preflight.preflight("cuda:77")


def ranks(count: int, fault: str) -> str:
    """What ``count`` ranks print, the last of which has a fault."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={count}", str(ROOT / "tests/trainer/preflight_rank.py"), fault],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_ranks_that_are_well_are_not_named() -> None:
    out = ranks(2, "none")
    assert re.search(r"all-reduce over 2 ranks: [\d.]+ GB/s", out)
    assert out.rstrip().endswith("no rank stands out"), out
    assert len(re.findall(r"(?m)^ +[01]  \S+ +cpu +[\d.]+ +[\d.]+ +[\d.]+ +- +0$", out)) == 2


@pytest.mark.slow
def test_a_slow_rank_is_named() -> None:
    out = ranks(3, "slow")
    assert re.search(r"rank 2 \(\S+, cpu\): matrix products at \S+ TFLOP/s, \d+ % of the", out), out
    assert "rank 0 (" not in out and "rank 1 (" not in out


@pytest.mark.slow
def test_a_rank_that_computes_wrongly_is_named() -> None:
    out = ranks(2, "wrong")
    assert re.search(r"rank 1 \(\S+, cpu\): 10 of 11 known results came out wrong", out), out
    assert "rank 0 (" not in out


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named() -> None:
    assert re.search(
        r"error: preflight: not all ranks came: nothing of rank 1 for", ranks(2, "absent")
    )
