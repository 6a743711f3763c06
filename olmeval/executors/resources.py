"""What a worker gets of the machine: threads, and devices."""

import os
from collections.abc import Sequence
from pathlib import Path

from olmeval.errors import UserError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either under Windows


def thread_settings(threads: int) -> dict[str, str]:
    """The environment of a worker with so many threads, for OpenMP, BLAS and the tokenizers.

    Waiting OpenMP threads sleep: by default they spin, and starve the neighbour's.
    """
    return {**dict.fromkeys(THREADS, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as names for ``CUDA_VISIBLE_DEVICES``."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in (part.strip() for part in listed.split(",")) if name]
    if not any(Path(driver).exists() for driver in DRIVERS):
        return []
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def slots_on(devices: int, gpus_per_worker: float) -> int:
    """How many workers fit on so many GPUs; a share is never put together from two of them."""
    if gpus_per_worker < 1:
        return devices * int(1 / gpus_per_worker + 1e-6)
    return devices // int(gpus_per_worker)


def split(devices: Sequence[str], workers: int, gpus_per_worker: float) -> list[str]:
    """``CUDA_VISIBLE_DEVICES`` of each worker.

    Raises :class:`UserError` when there are too few devices.
    """
    if gpus_per_worker == 0:
        return [""] * workers
    if workers > slots_on(len(devices), gpus_per_worker):
        raise UserError(
            f"{workers} workers with {gpus_per_worker:g} GPUs each do not fit on the "
            f"{len(devices)} GPUs of this machine; lower --workers or --gpus-per-worker"
        )
    if gpus_per_worker < 1:
        return [devices[k // slots_on(1, gpus_per_worker)] for k in range(workers)]
    each = int(gpus_per_worker)
    return [",".join(devices[k * each : (k + 1) * each]) for k in range(workers)]
