"""Looks for the slow or broken device before a long run finds it.

Every rank measures what training is made of: matrix products, memory traffic, and exchange with
other ranks; a rank well below the median of all is named. A collective operation takes as long as
its slowest member and so cannot tell who that is; therefore ranks exchange data in pairs, in the
rounds of a tournament, and each is judged by the median over its partners. Partners on the same
machine and on others are kept apart, since the links are not alike. Products with a known result
find the device that computes wrongly, which no training loss would tell for a long time.
"""

import itertools
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from olmeval.errors import UserError
from olmeval.trainer.parallel import World, join

WINDOWS = 10  # parts of a measurement, of which the median counts
CHECKED = 10  # products with a known result
TURNS = 15  # partners of a rank at most
PATIENCE = timedelta(minutes=2)  # for a rank that does not come
_turns = itertools.count()


@dataclass(frozen=True)
class Rank:
    """What one rank can do.

    ``product`` in TFLOP/s (bfloat16 on a CUDA device, float32 elsewhere), ``memory`` in GB/s read
    and written, ``near`` and ``far`` in GB/s each way with a partner on the same machine and on
    another (None: it has none). ``wrong``: results, out of ``CHECKED`` products and one all-reduce,
    that were not right.
    """

    rank: int
    host: str
    device: str
    product: float
    memory: float
    wrong: int
    near: float | None = None
    far: float | None = None


MEASURES = {
    "product": ("matrix products", "TFLOP/s"),
    "memory": ("memory", "GB/s"),
    "near": ("exchange within the machine", "GB/s"),
    "far": ("exchange between machines", "GB/s"),
}


@dataclass(frozen=True)
class Preflight:
    """All ranks. ``all_reduce``: GB/s that pass each rank's link in one over all ranks."""

    ranks: tuple[Rank, ...]
    all_reduce: float | None
    suspects: tuple[str, ...]
    """A sentence for everything about a rank that is slow or wrong."""

    def text(self) -> str:
        """A table for the terminal, with the suspects below."""
        lines = [f"{'rank':>4}  {'host':<20} {'device':<10} {'TFLOP/s':>9} {'memory GB/s':>12} "
                 f"{'near GB/s':>10} {'far GB/s':>9} {'wrong':>5}"]  # fmt: skip
        for r in self.ranks:
            near, far = ("-" if rate is None else f"{rate:.1f}" for rate in (r.near, r.far))
            lines.append(f"{r.rank:>4}  {r.host:<20} {r.device:<10} {r.product:>9.2f} "
                         f"{r.memory:>12.1f} {near:>10} {far:>9} {r.wrong:>5}")  # fmt: skip
        if self.all_reduce is not None:
            lines.append(f"all-reduce over {len(self.ranks)} ranks: {self.all_reduce:.1f} GB/s")
        return "\n".join([*lines, *(self.suspects or ["no rank stands out"])])


def preflight(device: str = "auto", *, seconds: float = 2.0, slow: float = 0.9) -> Preflight | None:
    """Measures this process's device, and all that ``torchrun`` started with it.

    ``seconds`` for each measurement of a device; a rank is slow below ``slow`` of the median.
    Returns the report on rank 0, elsewhere None. Raises :class:`UserError` when the device is not
    there, and when ranks do not come within two minutes, naming them.
    """
    world = join(device)
    rank = Rank(
        world.rank,
        socket.gethostname(),
        str(world.device),
        product_rate(world.device, seconds),
        memory_rate(world.device, seconds),
        wrong_products(world.device),
    )
    if world.size == 1:
        return Preflight((rank,), None, tuple(suspects([rank], slow)))
    _await_all(world)
    hosts = [""] * world.size
    dist.all_gather_object(hosts, rank.host, group=world.files)
    all_reduce, wrong = _all_reduce(world)
    near, far = _exchange(world, hosts)
    rank = Rank(
        rank.rank, rank.host, rank.device, rank.product, rank.memory, rank.wrong + wrong,
        near, far,
    )  # fmt: skip
    ranks: list[Rank] = [rank] * world.size
    dist.all_gather_object(ranks, rank, group=world.files)
    if not world.main:
        return None
    return Preflight(tuple(ranks), all_reduce, tuple(suspects(ranks, slow)))


def suspects(ranks: Sequence[Rank], slow: float) -> Iterable[str]:
    """A sentence for every measure of a rank below ``slow`` times the median, or result wrong."""
    for rank in ranks:
        who = f"rank {rank.rank} ({rank.host}, {rank.device})"
        if rank.wrong:
            known = CHECKED + (len(ranks) > 1)
            yield f"{who}: {rank.wrong} of {known} known results came out wrong"
        for name, (what, unit) in MEASURES.items():
            rate = getattr(rank, name)
            median = statistics.median(
                [r for other in ranks if (r := getattr(other, name)) is not None] or [0]
            )
            if rate is not None and rate < slow * median:
                share = f"{100 * rate / median:.0f} % of the median {median:.3g}"
                yield f"{who}: {what} at {rate:.3g} {unit}, {share}"


def product_rate(device: torch.device, seconds: float = 2.0, size: int | None = None) -> float:
    """TFLOP/s of square matrix products of normal numbers, sustained over ``seconds``.

    Default sizes: 8192 in bfloat16 on a CUDA device, 1024 in float32 elsewhere.
    """
    gpu = device.type == "cuda"
    n = size or (8192 if gpu else 1024)
    dtype = torch.bfloat16 if gpu else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / 1e12 / _time(lambda: product(a, b), device, seconds)


def memory_rate(device: torch.device, seconds: float = 2.0) -> float:
    """GB/s read and written by copies of 1 GiB on a CUDA device, 64 MiB elsewhere."""
    size = 1 << (30 if device.type == "cuda" else 26)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / 1e9 / _time(lambda: target.copy_(source), device, seconds)


def product(a: Tensor, b: Tensor) -> Tensor:
    """What is measured and checked."""
    return a @ b


def wrong_products(device: torch.device) -> int:
    """How many of ``CHECKED`` matrix products are wrong.

    Sparse matrices of -1, 0, 1, whose products are whole numbers that bfloat16 holds exactly,
    whatever the order of summation; checked against a random vector (Freivalds 1977) in float64,
    where all is exact again.
    """
    gpu = device.type == "cuda"
    n, dtype = (4096, torch.bfloat16) if gpu else (512, torch.float32)
    generator = torch.Generator().manual_seed(0)
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    for _ in range(CHECKED):
        a, b = (_sparse(n, generator).to(device, dtype) for _ in range(2))
        c = product(a, b)
        x = torch.randint(-(1 << 20), 1 << 20, (n,), generator=generator).to(device, torch.float64)
        wrong += ((c.double() @ x) != (a.double() @ (b.double() @ x))).any()
    return int(wrong)


def _sparse(n: int, generator: torch.Generator) -> Tensor:
    """One number in sixteen is 1 or -1: sums of n / 256 such terms stay far below 256."""
    drawn = torch.randint(0, 32, (n, n), generator=generator, dtype=torch.int8)
    return (drawn == 0).to(torch.int8) - (drawn == 1).to(torch.int8)


def _time(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds that ``work`` takes: the median of ``WINDOWS`` windows that fill ``seconds``."""
    work()
    _finish(device)
    times: list[float] = []
    calls = 1
    while len(times) < WINDOWS:
        started = time.perf_counter()
        for _ in range(calls):
            work()
        _finish(device)
        passed = time.perf_counter() - started
        if passed < seconds / WINDOWS / 2 and not times:
            calls *= 2
        else:
            times.append(passed / calls)
    return statistics.median(times)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _await_all(world: World) -> None:
    """Waits for all ranks; raises :class:`UserError` with those that do not come.

    Through the store by which ranks find each other: an exchange among them would end with the
    first broken connection, and not know whose.
    """
    store = distributed_c10d._get_default_store()
    turn = next(_turns)
    keys = [f"olmeval/preflight/{turn}/{rank}" for rank in range(world.size)]
    store.set(keys[world.rank], "here")
    try:
        store.wait(keys, PATIENCE)
    except RuntimeError:
        absent = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
        if absent:
            who = f"rank {absent[0]}" if len(absent) == 1 else f"ranks {', '.join(absent)}"
            raise UserError(
                f"preflight: not all ranks came: nothing of {who} for "
                f"{PATIENCE.total_seconds():.0f} s; look at the log of that process, or leave its "
                "node out"
            ) from None


def _all_reduce(world: World) -> tuple[float, int]:
    """GB/s past each link in an all-reduce over all ranks, and whether its sum was wrong here."""
    values = torch.full((_message(world),), float(world.rank + 1), device=world.device)
    dist.all_reduce(values)
    wrong = int((values != world.size * (world.size + 1) / 2).any())
    passed = 2 * (world.size - 1) / world.size * values.nbytes
    return passed / 1e9 / _best(lambda: dist.all_reduce(values), world), wrong


def _exchange(world: World, hosts: list[str]) -> tuple[float | None, float | None]:
    """Median GB/s each way with partners on this machine, and with those on others."""
    sent = torch.ones(_message(world), device=world.device)
    received = torch.empty_like(sent)
    rates: dict[bool, list[float]] = {True: [], False: []}
    circle = world.size + world.size % 2 - 1
    for turn in sorted({k * circle // TURNS for k in range(TURNS)}):
        other = partner(world.rank, world.size, turn)
        dist.barrier(world.files)
        if other is None:
            continue

        def swap(other: int = other) -> None:
            both = [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, received, other)]
            for request in dist.batch_isend_irecv(both):
                request.wait()

        seconds = _best(swap, world)
        rates[hosts[other] == hosts[world.rank]].append(sent.nbytes / 1e9 / seconds)
    near, far = (statistics.median(rates[k]) if rates[k] else None for k in (True, False))
    return near, far


def partner(rank: int, size: int, turn: int) -> int | None:
    """Whom ``rank`` meets in a round of a tournament of all against all; None: nobody.

    The circle method: in round ``turn`` those meet whose numbers add up to it, modulo the largest
    odd number of players; the last player meets the one who would meet himself.
    """
    circle = size + size % 2 - 1
    if rank == circle:
        other = turn * ((circle + 1) // 2) % circle  # the one with 2 x = turn
    else:
        other = (turn - rank) % circle
        if other == rank:
            other = circle
    return other if other < size else None


def _message(world: World) -> int:
    """Numbers in a message: 256 MiB on a CUDA device, 8 MiB elsewhere."""
    return 1 << (26 if world.device.type == "cuda" else 21)


def _best(work: Callable[[], object], world: World) -> float:
    """Seconds of the fastest of a few times: a link's speed, not the others' delays."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        _finish(world.device)
        times.append(time.perf_counter() - started)
    return min(times)
