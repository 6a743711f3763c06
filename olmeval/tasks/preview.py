"""What a model is shown: the exact text of a task's requests, cut where the tokenizer cuts it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.requests import Instance, Reference, Request, Sampling
from olmeval.tasks.pull import require_pulled
from olmeval.tasks.registry import Task

DEFAULT_TOKENIZER = "allenai_gpt-neox-olmo-dolma-v1_5.json"


@dataclass(frozen=True)
class Piece:
    """The text that one token adds. It is empty when a character takes several tokens."""

    text: str
    token: int


@dataclass(frozen=True)
class RequestView:
    """A request in tokens. ``crossing`` is text of a token that spans both parts, else empty."""

    context: tuple[Piece, ...]
    continuation: tuple[Piece, ...]
    crossing: str
    is_gold: bool


@dataclass(frozen=True)
class InstanceView:
    """One document's requests, and its unconditional ones as text.

    A generation has ``sampling`` and ``references``, the accepted answers.
    """

    native_id: str
    requests: tuple[RequestView, ...]
    unconditional: tuple[Request, ...]
    sampling: Sampling | None
    references: tuple[Reference, ...]


def load_tokenizer(path: Path | None) -> tuple[Any, str]:
    """A ``tokenizers.Tokenizer`` and its name; the pulled OLMo one when ``path`` is None.

    ``path``: a ``tokenizer.json``, or a folder (such as a checkpoint) that holds one.
    """
    from tokenizers import Tokenizer

    if path is None:
        path = require_pulled() / "tokenizers" / DEFAULT_TOKENIZER
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"'{path}' holds no tokenizer: '{file}' does not exist")
    try:
        return Tokenizer.from_file(str(file)), str(file)
    except Exception as error:  # the library raises the bare class
        raise UserError(f"'{file}' is not a tokenizer: {error}") from None


def preview(task: Task, tokenizer: Any, n: int = 1) -> list[InstanceView]:
    """The first ``n`` instances of ``task`` in tokens of ``tokenizer``."""
    if n < 1:
        raise UserError(f"-n {n}: preview at least one document")
    return [_instance_view(instance, tokenizer) for instance in task.instances()[:n]]


def _instance_view(instance: Instance, tokenizer: Any) -> InstanceView:
    return InstanceView(
        instance.native_id,
        tuple(
            request_view(request, tokenizer, index == instance.gold)
            for index, request in enumerate(instance.requests)
        ),
        instance.unconditional,
        instance.requests[0].sampling,
        instance.references,
    )


def request_view(request: Request, tokenizer: Any, is_gold: bool) -> RequestView:
    """Cuts context + continuation, encoded together, into tokens.

    A token that spans the border is shown with the part in which it ends, and its text is
    ``crossing``.
    """
    whole = request.context + request.continuation
    encoding = tokenizer.encode(whole, add_special_tokens=False)
    border = len(request.context)
    before: list[Piece] = []
    after: list[Piece] = []
    crossing = ""
    shown = 0
    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        # Text that the tokenizer dropped is shown with the token after it.
        piece = Piece(whole[shown:end] if end > shown else "", token)
        shown = max(shown, end)
        (before if end <= border else after).append(piece)
        if start < border < end:
            crossing = whole[start:end]
    return RequestView(tuple(before), tuple(after), crossing, is_gold)


def visible(text: str) -> str:
    """``text`` with white space made visible: · space, → tab, ↵ and a line break, ␍ return."""
    return text.translate(_VISIBLE)


_VISIBLE = str.maketrans({" ": "·", "\t": "→", "\n": "↵\n", "\r": "␍", "\u00a0": "⍽"})
