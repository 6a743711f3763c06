"""One tokenization of context and continuation for every backend.

The rule is that of OLMES and lm-evaluation-harness (``_encode_pair``): trailing white space of the
context moves to the continuation; both are encoded jointly; the continuation's ids are what follows
the length of the context's own encoding. What that rule does silently elsewhere is counted here:
seams (the joint encoding does not begin with the context's), truncation from the left, requests
without the BOS that the tokenizer would add.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from olmeval.backends import prefixes
from olmeval.backends.planner import Ints, Sequences, Tokens, starts
from olmeval.errors import UserError
from olmeval.files import sha256_json
from olmeval.requests import Request

Bos = Literal["standard", "always", "never"]


@dataclass(frozen=True)
class Tokenized:
    """R requests as ids, with what happened to each on the way.

    ``too_long`` [R]: the continuation alone exceeds the window, so the request cannot be scored.
    ``truncated`` [R]: context tokens cut from the left. ``seam`` [R]: the joint encoding does not
    begin with the context's. ``moved_space`` [R]: white space moved to the continuation.
    ``double_space`` [R]: the continuation begins with two spaces. ``missing_bos`` [R]: scored
    without the BOS that the tokenizer would add by default.
    """

    sequences: Sequences
    too_long: NDArray[np.bool_]
    truncated: Ints
    seam: NDArray[np.bool_]
    moved_space: NDArray[np.bool_]
    double_space: NDArray[np.bool_]
    missing_bos: NDArray[np.bool_]


def joined(a: Tokenized, b: Tokenized) -> Tokenized:
    """The rows of ``a``, then those of ``b``."""

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    return Tokenized(
        Sequences(
            np.concatenate([a.sequences.ids, b.sequences.ids]),
            np.concatenate([a.sequences.offsets, b.sequences.offsets[1:] + len(a.sequences.ids)]),
            np.concatenate([a.sequences.context_len, b.sequences.context_len]),
        ),
        **{f.name: both(f.name) for f in fields(Tokenized) if f.name != "sequences"},
    )


class Tokenizer:
    """A Hugging Face tokenizer, reduced to what scoring and generation need."""

    def __init__(self, tokenizer: Any, bos: Bos = "standard", model_type: str = ""):
        self.hf = tokenizer
        # OLMES adds BOS for Gemma only; every other model is scored without it.
        self.add_bos = bos == "always" or (bos == "standard" and model_type.startswith("gemma"))
        if self.add_bos and tokenizer.bos_token_id is None:
            raise UserError("--bos always: this tokenizer defines no BOS token; use --bos never")
        prefix = tokenizer.bos_token_id
        self.prefix_id: int | None = tokenizer.eos_token_id if prefix is None else prefix
        probe = tokenizer("a")["input_ids"]
        self.adds_bos_by_default = bool(probe) and probe[0] == tokenizer.bos_token_id
        self.hash = _hash(tokenizer)
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._can_share: bool | None = None

    @classmethod
    def load(cls, path: str | Path, bos: Bos = "standard", model_type: str = "") -> "Tokenizer":
        """From a checkpoint folder or hub id; :class:`UserError` when there is none."""
        from transformers import AutoTokenizer

        names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
        if Path(path).is_dir() and not any((Path(path) / name).exists() for name in names):
            raise UserError(
                f"'{path}' holds no tokenizer (tokenizer.json or tokenizer_config.json); copy the "
                "model's tokenizer files there or pass --tokenizer DIR"
            )
        try:
            # Left open, transformers asks at the terminal, and runs the folder's code.
            found = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
            return cls(found, bos, model_type)
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise UserError(f"cannot load a tokenizer from '{path}': {first}") from None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        return [ids.tolist() for ids in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Tokens]:
        return prefixes.encode_all(self._whole, texts, self._shares(texts))

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as the tokenizer gives them."""
        if self._backend is None:
            ids: list[list[int]] = self.hf(list(texts), add_special_tokens=False)["input_ids"]
            return ids
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [e.ids for e in encodings]

    def _shares(self, texts: Sequence[str]) -> bool:
        """Whether texts like these can be encoded in pieces."""
        if self._can_share is None:
            self._can_share = self._backend is not None and prefixes.can_share(self._backend)
        return self._can_share and prefixes.shares(self._whole, texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are kept."""
        return str(self.hf.decode(ids, clean_up_tokenization_spaces=False))

    def pairs(self, requests: Sequence[Request], max_length: int) -> Tokenized:
        """Encodes log-likelihood requests for a window of ``max_length`` input tokens.

        A sequence keeps at most ``max_length`` inputs plus the last target, cut from the left, as
        OLMES' transformers backend does.
        """
        contexts = [r.context.rstrip() for r in requests]
        moved = [len(c) < len(r.context) for c, r in zip(contexts, requests, strict=True)]
        sample = requests[:: max(len(requests) // prefixes.CHECKED, 1)]
        shared = self._shares([r.context + r.continuation for r in sample])
        pieces = prefixes.Pieces(self._whole, shared)
        # A whole text has the pieces of its context, but for the last one, which goes on.
        cuts = {context: pieces.cut(context) for context in contexts}
        numbers = {context: pieces.add(cut) for context, cut in cuts.items()}
        tails = [
            pieces.add(pieces.cut(cuts[c][-1] + r.context[len(c) :] + r.continuation))
            for c, r in zip(contexts, requests, strict=True)
        ]
        pieces.encode()
        head = np.array([self.hf.bos_token_id] if self.add_bos else [], np.int32)
        before = {c: np.concatenate([head, pieces.ids(of)]) for c, of in numbers.items()}
        last = {c: pieces.ids(of[-1:]) for c, of in numbers.items()}
        if not len(before.get("", (0,))):
            before[""] = np.array([self._prefix()], np.int32)
        ids: list[Tokens] = [head[:0]]
        lengths, context_lengths, seams, cut, too_long = [], [], [], [], []
        for context, tail, request in zip(contexts, tails, requests, strict=True):
            given, end, joint = before[context], last[context], pieces.ids(tail)
            seams.append(joint[: len(end)].tobytes() != end.tobytes())
            after = joint[len(end) :]
            if not len(after):
                # The continuation merged into the context: encode what follows it on its own.
                (after,) = self._encode([request.context[len(context) :] + request.continuation])
            # At least one token must stay to predict from, whatever the window says.
            drop = min(max(len(given) + len(after) - (max_length + 1), 0), len(given) - 1)
            too_long.append(not 0 < len(after) <= max_length)
            cut.append(drop)
            ids += (given[drop:], after)
            lengths.append(len(given) - drop + len(after))
            context_lengths.append(len(given) - drop)
        missing = self.adds_bos_by_default and not self.add_bos
        return Tokenized(
            Sequences(
                np.concatenate(ids), starts(np.array(lengths, np.int64)),
                np.array(context_lengths, np.int64),
            ),
            too_long=np.array(too_long, np.bool_),
            truncated=np.array(cut, np.int64),
            seam=np.array(seams, np.bool_),
            moved_space=np.array(moved, np.bool_),
            double_space=np.array([r.continuation.startswith("  ") for r in requests], np.bool_),
            missing_bos=np.full(len(requests), missing),
        )  # fmt: skip

    def windows(
        self, documents: Sequence[str], max_length: int, overlap: int = 0
    ) -> tuple[Tokenized, Ints]:
        """Whole documents as windows that score every token once, and whose window is whose [W].

        The first window begins after BOS (else EOS). Each further one sees the last ``overlap``
        tokens before it, at least one, as context; no window feeds more than ``max_length`` tokens
        (rolling log-likelihood as in lm-evaluation-harness; Paloma, Magnusson et al. 2023, section
        3.2, with no overlap). Documents are never concatenated.
        """
        if not 0 <= overlap < max_length:
            raise UserError(
                f"an overlap of {overlap} tokens needs a window longer than {max_length}"
            )
        ids: list[Tokens] = [np.zeros(0, np.int32)]
        lengths, contexts, owner = [], [], []
        for number, tokens in enumerate(self._encode(documents)):
            text = np.concatenate([np.array([self._prefix()], np.int32), tokens])
            done = 1
            while done < len(text):
                context = 1 if done == 1 else max(overlap, 1)
                end = min(done + max_length - context + 1, len(text))
                context = min(context, done)
                ids.append(text[done - context : end])
                lengths.append(end - done + context)
                contexts.append(context)
                owner.append(number)
                done = end
        rows = len(lengths)
        none = np.zeros(rows, np.bool_)
        return (
            Tokenized(
                Sequences(
                    np.concatenate(ids), starts(np.array(lengths, np.int64)),
                    np.array(contexts, np.int64),
                ),
                none, np.zeros(rows, np.int64), none, none, none,
                # The prefix of a document is the BOS where the tokenizer has one.
                np.full(rows, self.adds_bos_by_default and self.hf.bos_token_id is None),
            ),
            np.array(owner, np.int64),
        )  # fmt: skip

    def prompts(self, requests: Sequence[Request], max_length: int) -> tuple[list[list[int]], Ints]:
        """Ids of generation prompts, cut from the left to leave room for the new tokens.

        Returns the ids and how many tokens were cut of each [R].
        """
        head = [self.hf.bos_token_id] if self.add_bos else []
        prompts, cut = [], []
        for request, ids in zip(requests, self.encode([r.context for r in requests]), strict=True):
            assert request.sampling is not None
            room = max_length - request.sampling.max_tokens
            if room < 1:
                raise UserError(
                    f"max_tokens {request.sampling.max_tokens} leaves no room for a prompt in a "
                    f"window of {max_length} tokens; lower it or raise --max-length"
                )
            ids = head + ids or [self._prefix()]
            cut.append(max(len(ids) - room, 0))
            prompts.append(ids[cut[-1] :])
        return prompts, np.array(cut, np.int64)

    def _prefix(self) -> int:
        if self.prefix_id is None:
            raise UserError(
                "an empty context needs a BOS or EOS token, and this tokenizer has none"
            )
        return self.prefix_id


def _hash(tokenizer: Any) -> str:
    """Content hash: the serialised fast tokenizer, else the vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return sha256_json([backend.to_str(), tokenizer.bos_token_id, tokenizer.eos_token_id])
    return sha256_json(sorted(tokenizer.get_vocab().items()))
