"""One instance with everything that was asked of the model and everything it answered."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from olmeval.reports.view.answers import (
    CONDITIONED,
    UNCONDITIONAL,
    Stored,
    read_requests,
    read_responses,
)  # fmt: skip
from olmeval.reports.view.asked import result_of
from olmeval.reports.view.catalog import Entry
from olmeval.reports.view.tokens import Tokenizers, joined
from olmeval.results.answers import Response

# Scores by which choices are ranked (olmeval.metrics.choice): metric and what divides the
# log-probability.
NORMALISATIONS = (
    ("acc_raw", None), ("acc_per_token", "tokens"), ("acc_per_char", "chars"),
    ("acc_per_byte", "bytes"),
)  # fmt: skip


def describe(
    run: Entry,
    task: str,
    doc: int,
    values: Sequence[Mapping[str, Any]],
    graded: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """An instance for the page.

    ``values`` are its rows of ``instances.parquet``; ``graded`` has those of ``grades.parquet`` and
    ``verdicts.parquet``, by sample.
    """
    result = result_of(run, task)
    stored = read_requests(run.path / "requests.parquet", task, [doc])
    answers = read_responses(run.path / "responses.parquet", [s.key for s in stored if s.key])
    asked = [s for s in stored if s.role == CONDITIONED]
    unconditional = {s.choice: s for s in stored if s.role == UNCONDITIONAL}
    first = values[0]
    scores = {row["metric"]: _number(row["value"]) for row in values}
    found: dict[str, Any] = {
        "run": run.id,
        "task": task,
        "doc_id": doc,
        "native_id": first["native_id"],
        "cluster": first["cluster"],
        "status": first["status"],
        "primary_metric": result["primary_metric"],
        "values": scores,
        "better": {k: m["higher_is_better"] for k, m in result["metrics"].items()},
        "references": json.loads(first.get("references") or "[]"),
        "kind": asked[0].request.kind if asked else None,
        "prompt": asked[0].request.context if asked else "",
        "prompt_tokens": asked[0].context_tokens if asked else 0,
        "truncated": any(s.truncated for s in asked),
    }
    if found["kind"] == "generate":
        sampling = asked[0].request.sampling
        answer = answers.get(asked[0].key or b"")
        found["sampling"] = None if sampling is None else vars_of(sampling)
        found["samples"] = [
            {**vars_of(sample), **_grade(graded.get(k, {}))}
            for k, sample in enumerate(answer.samples if answer else ())
        ]
        return found
    choices = [
        _choice(s, answers.get(s.key or b""), answers, unconditional.get(s.choice), asked[0])
        for s in asked
    ]
    gold = first.get("gold")
    found["gold"] = _inferred(choices, scores) if gold is None else int(gold)
    found["choices"] = choices
    found["best"] = _best(choices)
    return found


def _grade(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a sample: right or not, the answer in it, what became of its program."""
    found: dict[str, Any] = {"right": _number(row.get("right")), "answer": row.get("answer")}
    if row.get("status"):
        names = ("status", "mode", "strict", "compat", "detail", "stdout", "stderr", "program",
                 "asserts", "tier", "suspected_cheat")  # fmt: skip
        found["verdict"] = {name: row.get(name) for name in names}
        found["verdict"]["seconds"] = _number(row.get("seconds"))
    return found


def vars_of(value: Any) -> dict[str, Any]:
    """A slotted dataclass as JSON-ready names and values; what is not finite is None."""
    return {
        name: _number(v) if isinstance(v := getattr(value, name), float) else v
        for name in value.__slots__
    }


def _choice(
    stored: Stored,
    answer: Response | None,
    answers: Mapping[bytes, Response],
    alone: Stored | None,
    first: Stored,
) -> dict[str, Any]:
    request = stored.request
    sizes = {
        "tokens": stored.continuation_tokens,
        "chars": len(request.continuation),
        "bytes": len(request.continuation.encode(errors="surrogatepass")),
    }
    logprob = None if answer is None else _number(answer.logprob)
    of_alone = None if alone is None else answers.get(alone.key or b"")
    scores = {
        name: None if logprob is None else logprob / max(sizes[by] if by else 1, 1)
        for name, by in NORMALISATIONS
    }
    if of_alone is not None and logprob is not None:
        scores["acc_uncond"] = _number(logprob - of_alone.logprob)
    given = None if answer is None else answer.token_logprobs
    return {
        "choice": stored.choice,
        "text": request.continuation,
        # Every choice has a context of its own where the gap is filled in (winogrande).
        "context": request.context if request.context != first.request.context else None,
        **sizes,
        "logprob": logprob,
        "unconditional": None if of_alone is None else _number(of_alone.logprob),
        "unconditional_prompt": None if alone is None else alone.request.context,
        "greedy": answer.greedy if answer else None,
        "token_logprobs": None if given is None else [_number(x) for x in given.tolist()],
        "scores": scores,
        "truncated": stored.truncated,
        "seam": stored.seam,
    }


def _best(choices: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """By normalisation the choices with the best score, several where they tie."""
    best = {}
    for name in choices[0]["scores"] if choices else ():
        scores = [c["scores"].get(name) for c in choices]
        known = [s for s in scores if s is not None]
        if len(known) == len(choices) > 1:
            best[name] = [
                c["choice"] for c, s in zip(choices, scores, strict=True) if s == max(known)
            ]
    return best


def _inferred(choices: Sequence[Mapping[str, Any]], scores: Mapping[str, Any]) -> int | None:
    """The right choice of a run that does not name it: the one with the instance's bits per byte.

    None where several have them.
    """
    bits = scores.get("bits_per_byte")
    fits = [
        int(c["choice"])
        for c in choices
        if bits is not None
        and c["logprob"] is not None
        and math.isclose(-c["logprob"] / math.log(2) / max(c["bytes"], 1), bits, rel_tol=1e-9)
    ]
    return fits[0] if len(fits) == 1 else None


def shared_prefix(run: Entry, task: str, doc: int, prompt: str) -> int:
    """How many characters a prompt begins with that those of far documents begin with, too.

    These are its examples (few shots); the cut is at the end of a line.
    """
    n = int(result_of(run, task)["instances"])
    far = {(doc + n // 2) % n, (doc + n // 3) % n} - {doc}
    others = read_requests(run.path / "requests.parquet", task, far, first=True)
    lengths = [_common(prompt, s.request.context) for s in others]
    return prompt.rfind("\n", 0, min(lengths)) + 1 if lengths else 0


def _common(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        half = (low + high + 1) // 2
        low, high = (half, high) if a[:half] == b[:half] else (low, half - 1)
    return low


def snippets(run: Entry, task: str, docs: Sequence[int], length: int = 160) -> dict[str, str]:
    """The last paragraph of every document's prompt, or of one that is scored as a whole."""
    found = read_requests(run.path / "requests.parquet", task, docs, first=True)
    texts = {}
    for stored in found:
        text = stored.request.context.rstrip() or stored.request.continuation
        # The line that asks for the answer says nothing of the question.
        body = text[-4000:].removesuffix("Answer:").rstrip().split("\n\n")[-1]
        texts[str(stored.doc_id)] = " ".join(body[: length * 2].split())[:length]
    return texts


def boundaries(
    run: Entry, task: str, doc: int, tokenizers: Tokenizers, others: Sequence[Entry]
) -> dict[str, Any]:
    """The tokens of an instance's requests, or why they cannot be told.

    ``contexts`` are lists of pieces of text; a request has the number of its context, the pieces
    that were scored with their log-probabilities (natural), and how many tokens of the context
    did not fit (``cut``). ``others`` are runs whose model's tokenizer may be the same.
    """
    stored = [
        s
        for s in read_requests(run.path / "requests.parquet", task, [doc])
        if s.role == CONDITIONED and s.key is not None
    ]
    same = [
        str(other.info["model"].get("path"))
        for other in others
        if not other.error and other.info.get("tokenizer") == run.info.get("tokenizer")
    ]
    contexts: dict[tuple[str, ...], int] = {}
    requests = []
    for s in stored:
        assert s.key is not None
        windows = tokenizers.windows(run.info, s.request, s.key, same[:20])
        if windows is None:
            path = run.info["model"].get("path")
            return {
                "error": f"Token boundaries are not shown: no tokenizer in '{path}' (the model's "
                "place) gives the ids that were asked. `olmeval view --tokenizer DIR` takes "
                "another place."
            }
        whole = joined(windows)
        answers = read_responses(run.path / "responses.parquet", [w.key for w in windows])
        logprobs: list[float | None] = []
        for window in windows:
            answer = answers.get(window.key)
            given = None if answer is None else answer.token_logprobs
            logprobs += (
                [None] * len(window.scored)
                if given is None
                else [_number(x) for x in given.tolist()]
            )
        context = tuple(whole.context)
        requests.append(
            {
                "choice": s.choice,
                "context": contexts.setdefault(context, len(contexts)),
                "scored": whole.scored,
                "logprobs": logprobs,
                "cut": whole.cut,
                "windows": len(windows),
            }
        )
    return {"contexts": [list(c) for c in contexts], "requests": requests}


def _number(value: Any) -> float | None:
    """A float, or None for what JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)
