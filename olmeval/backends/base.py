"""What a scorer is: the protocol every backend fulfils, and what it says about its model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.planner import Plan, Step
from olmeval.backends.tokenization import Bos, Tokenizer
from olmeval.requests import Sampling

# In ``run.json``, too, where they are of all workers, but not of sessions that were stopped.
COUNTS = "last_session"


@dataclass(frozen=True)
class ModelInfo:
    """A model as runs and tables name it.

    ``fingerprint`` identifies the weights and configuration by content; ``params`` counts weights
    with the output head and without the input embedding (None where nobody can tell: a server);
    ``metadata`` is what the trainer wrote
    beside the weights (step, tokens, flops, seed, mix …), empty for other checkpoints;
    ``settings`` are the engine's settings that can change a score, and under :data:`COUNTS` numbers
    of what happened since the last call of ``score``, which whoever calls it adds up.
    """

    name: str
    path: str
    fingerprint: str
    params: int | None
    params_total: int | None
    max_length: int
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model. None stands for the backend's own choice.

    ``max_length``: the model's window, at most 2,048 as in OLMES, unless given. ``row_tokens``
    is the token budget of a forward pass. ``extra`` holds what one backend alone understands
    (``--backend-args``); a key that it does not know is a :class:`~olmeval.errors.UserError`.
    """

    tokenizer: str | None = None
    device: str | None = None
    dtype: str = "auto"
    bos: Bos = "standard"
    max_length: int | None = None
    row_tokens: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


# Rows this long keep the matrix products full while attention to foreign branches stays cheap.
ROW_TOKENS = {"cpu": 256, "cuda": 2048}


def default_device(options: LoadOptions) -> str:
    """The device that was asked for, else CUDA where there is one."""
    import torch

    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def row_tokens(options: LoadOptions) -> int:
    """The token budget of a forward pass: what was asked for, else what suits the device."""
    return options.row_tokens or ROW_TOKENS.get(default_device(options).split(":")[0], 1024)


@dataclass(frozen=True)
class ScoredRange:
    """Distinct sequences ``lo:hi`` of a plan, done.

    ``logprobs`` and ``greedy`` hold one entry per scored token, ``plan.slots[lo]:plan.slots[hi]``:
    its natural-log probability (float32) and whether it was the arg max. A sequence that could
    not be scored holds nan: an error, tried again by the next run.
    """

    lo: int
    hi: int
    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]


@dataclass(frozen=True)
class Prompt:
    """A generation request as a backend takes it; ``seed`` comes from the request's key."""

    ids: tuple[int, ...]
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Generated:
    """One sample: its text (cut at the stop), tokens, log-probability and why it ended."""

    text: str
    n_tokens: int
    logprob: float
    finish: str  # "stop" or "length"


class Backend(Protocol):
    """A model that scores plans and continues prompts.

    Its class has ``load(checkpoint, options)``, listed in :mod:`olmeval.backends.registry`.
    """

    info: ModelInfo
    tokenizer: Tokenizer
    max_row_tokens: int
    samples_at_once: int
    fixed_batches: bool
    """Prompts given together are decoded as one batch, whose company can change a float."""

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """Runs ``steps`` (a sub-sequence of the plan's, as :meth:`Plan.pending` gives it)."""
        ...

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """Yields (index, its ``n`` samples) as prompts finish, in any order.

        No samples at all say that the prompt failed for good.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory, processes and connections."""
        ...
