"""Documents into instances, by the rules of the formats.

``mc`` scores the letters of lettered choices, ``rc`` the text of every choice, ``bpb`` the gold
choice alone; ``genqa``, ``cot``, ``code`` and ``fim`` ask for text; ``ppl`` scores documents. Text
is used as it is: nothing is stripped, no space is added or removed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from olmeval.errors import UserError
from olmeval.requests import Instance, Reference, Request, Sampling
from olmeval.tasks.documents import Document
from olmeval.tasks.schema import Form
from olmeval.tasks.shots import Shots
from olmeval.tasks.template import LETTERS, Compiled, compile_template, lettered, names


@dataclass(frozen=True)
class Rendered:
    """A document's contexts and continuations, one of each a choice, and the gold's index."""

    contexts: list[str]
    continuations: list[str]
    gold: int


class Renderer:
    """Renders documents of one task in one format; templates are compiled once."""

    def __init__(self, form: Form, letters: bool):
        self.form = form
        self.letters = letters
        self._prompt = compile_template(form.prompt)
        self._target = compile_template(form.target)
        self._shot = compile_template(form.shot) if form.shot is not None else None
        self._choices = compile_template(form.choices)
        self._gold = compile_template(form.gold)
        self._answer_prefix = compile_template(form.answer_prefix)
        wanted = form.references
        self._references: Compiled = (
            _list_of(wanted) if isinstance(wanted, list) else compile_template(wanted or "")
        )
        self._context_per_choice = "choice" in names(form.prompt)

    def document(self, doc: Document, only_gold: bool = False) -> Rendered:
        """Renders every choice of ``doc`` (or the gold one alone), without shots."""
        values, scored, gold = self._values(doc)
        if only_gold:
            scored, gold = [scored[gold]], 0
        contexts, continuations = [], []
        context = None if self._context_per_choice else str(self._prompt(values))
        for choice in scored:
            values["choice"] = choice
            contexts.append(str(self._prompt(values)) if context is None else context)
            continuations.append(str(self._target(values)))
        return Rendered(contexts, continuations, gold)

    def query(self, doc: Document) -> str:
        """What a generation continues, without shots."""
        return str(self._prompt(doc)) + str(self._answer_prefix(doc))

    def references(self, doc: Document) -> tuple[Reference, ...]:
        """The accepted answers; a list among them is one answer of several parts."""
        answers = self._references(doc)
        if not isinstance(answers, list | tuple) or not answers:
            raise UserError("'references' must be a list that holds the accepted answers")
        return tuple(tuple(map(str, a)) if isinstance(a, list | tuple) else str(a) for a in answers)

    def whole(self, doc: Document) -> str:
        """The document that the format ``ppl`` scores."""
        return str(self._target(doc))

    def shot(self, doc: Document) -> str:
        """``doc`` with its gold answer, as it stands in a few-shot prefix."""
        if self.form.sampling is not None and self._shot is not None:
            return str(self._shot(doc))
        values, scored, gold = self._values(doc)
        values["choice"] = scored[gold]
        if self._shot is not None:
            return str(self._shot(values))
        return str(self._prompt(values)) + str(self._target(values))

    def _values(self, doc: Document) -> tuple[dict[str, Any], Sequence[str], int]:
        choices = self._choices(doc)
        if not isinstance(choices, list) or not choices:
            raise UserError("'choices' must be a list that holds text")
        gold = int(self._gold(doc))
        if not 0 <= gold < len(choices):
            raise UserError(f"the gold index {gold} is outside its {len(choices)} choices")
        values = dict(doc)
        if not self.letters:
            return values, choices, gold
        values["lettered"] = lettered(choices)
        return values, LETTERS[: len(choices)], gold


def _list_of(templates: Sequence[str | list[str]]) -> Compiled:
    getters = [compile_template(t) if isinstance(t, str) else _list_of(t) for t in templates]
    return lambda values: [get(values) for get in getters]


def generations(
    docs: Sequence[Document],
    renderer: Renderer,
    shots: Shots,
    sampling: Sampling,
    cluster: str | None,
    group: str | None,
) -> list[Instance]:
    """One ``generate`` request a document, in order; ``cluster`` and ``group`` are templates."""
    cluster_of = compile_template(cluster) if cluster is not None else None
    group_of = compile_template(group) if group is not None else None
    result = []
    for doc_id, doc in enumerate(docs):
        native_id = str(doc["id"])
        try:
            context = shots.prefix(native_id) + renderer.query(doc)
            references = renderer.references(doc)
        except (UserError, ValueError) as error:
            raise UserError(f"document '{native_id}': {error}") from None
        result.append(
            Instance(
                doc_id=doc_id,
                native_id=native_id,
                requests=(Request("generate", context, sampling=sampling),),
                references=references,
                cluster=None if cluster_of is None else _short_hash(str(cluster_of(doc))),
                group=None if group_of is None else str(group_of(doc)),
            )
        )
    return result


def documents(
    docs: Sequence[Document], renderer: Renderer, cluster: str | None, group: str | None
) -> list[Instance]:
    """One ``rolling`` request a document, in order; nothing is joined."""
    cluster_of = compile_template(cluster) if cluster is not None else None
    group_of = compile_template(group) if group is not None else None
    result = []
    for doc_id, doc in enumerate(docs):
        native_id = str(doc["id"])
        text = renderer.whole(doc)
        if not text:
            raise UserError(f"document '{native_id}': the text is empty")
        result.append(
            Instance(
                doc_id=doc_id,
                native_id=native_id,
                requests=(Request("rolling", "", text),),
                cluster=None if cluster_of is None else _short_hash(str(cluster_of(doc))),
                group=None if group_of is None else str(group_of(doc)),
            )
        )
    return result


def instances(
    docs: Sequence[Document],
    renderer: Renderer,
    shots: Shots,
    *,
    only_gold: bool,
    unconditional: str | None,
    cluster: str | None,
) -> list[Instance]:
    """The instances of ``docs``, in order; ``doc_id`` counts from 0.

    ``unconditional`` is the prompt of the requests that PMI subtracts, or None for no such
    requests; ``cluster`` is a template whose value several documents share.
    """
    cluster_of = compile_template(cluster) if cluster is not None else None
    shared_prefix = None if shots.exclude_self else shots.prefix("")
    result = []
    for doc_id, doc in enumerate(docs):
        native_id = str(doc["id"])
        prefix = shots.prefix(native_id) if shared_prefix is None else shared_prefix
        try:
            rendered = renderer.document(doc, only_gold)
        except (UserError, ValueError) as error:
            raise UserError(f"document '{native_id}': {error}") from None
        requests = tuple(
            [
                Request("loglikelihood", prefix + context, continuation)
                for context, continuation in zip(
                    rendered.contexts, rendered.continuations, strict=True
                )
            ]
        )
        free: tuple[Request, ...] = ()
        if unconditional is not None:
            free = tuple(
                [
                    Request("loglikelihood", unconditional, continuation)
                    for continuation in rendered.continuations
                ]
            )
        result.append(
            Instance(
                doc_id=doc_id,
                native_id=native_id,
                requests=requests,
                unconditional=free,
                gold=rendered.gold,
                cluster=None if cluster_of is None else _short_hash(str(cluster_of(doc))),
            )
        )
    return result


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
