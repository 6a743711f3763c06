"""How a run is run: what can change its numbers, and what cannot."""

from dataclasses import dataclass, field
from typing import Any

from olmeval.backends.base import LoadOptions
from olmeval.backends.tokenization import Bos
from olmeval.engine.grade_code import Running

# Arguments of backends that decide how fast they answer, not what.
PACE = {
    "concurrency", "timeout", "retries", "requests_per_minute", "gpu_memory_utilization",
    "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size", "enforce_eager",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How to run a model; each changes numbers only as its comment says."""

    backend: str | None = None  # vllm, native, server; default: transformers, for a URL server
    backend_args: dict[str, Any] = field(default_factory=dict)  # what this backend alone knows
    device: str | None = None  # default: CUDA when there is one
    dtype: str = "auto"  # the checkpoint's own on a GPU, float32 on a CPU
    tokenizer: str | None = None  # another folder or hub id than the model's own
    bos: Bos = "standard"  # standard: BOS for Gemma only, as in OLMES
    max_length: int | None = None  # default: the model's window, at most 2,048 as in OLMES
    batch_size: int = 0  # sequences a forward pass; 0: as many as fit the token budget
    row_tokens: int | None = None  # token budget of a forward pass
    window_overlap: int = 0  # tokens of context that a document's later windows see again
    max_new_tokens: int | None = None  # lowers every generation's own limit to this
    program_env: str | None = None  # virtual environment that such programs may import from
    unsafe_local: bool = False  # run answers that are programs even where nothing contains them

    @property
    def load_options(self) -> LoadOptions:
        """What a backend is loaded with."""
        return LoadOptions(
            tokenizer=self.tokenizer,
            device=self.device,
            dtype=self.dtype,
            bos=self.bos,
            max_length=self.max_length,
            row_tokens=self.row_tokens,
            extra=self.backend_args,
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """What decides whether two runs ask the same: a folder holds one such answer."""
        return {
            "backend_args": {k: v for k, v in self.backend_args.items() if k not in PACE},
            "dtype": self.dtype,
            "tokenizer": self.tokenizer,
            "bos": self.bos,
            "max_length": self.max_length,
            "window_overlap": self.window_overlap,
            "max_new_tokens": self.max_new_tokens,
            **({} if self.program_env is None else {"program_env": self.program_env}),
        }

    @property
    def running(self) -> Running:
        """How answers that are programs are run."""
        return Running(self.unsafe_local, self.program_env)


@dataclass(frozen=True)
class Execution:
    """Where the work is done; no number depends on it."""

    executor: str = "process"  # also: local (a pool of workers on this machine), ray
    workers: int | None = None  # default: one a GPU, else one a core
    gpus_per_worker: float | None = None  # a fraction lets several workers share a GPU
    ray_address: str | None = None  # default: a Ray of this machine's own
