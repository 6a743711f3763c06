"""From a spec to a task that is ready to be asked: ``expand``, ``resolve``, ``load_task``."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmeval.errors import UserError, nearest
from olmeval.files import sha256_json
from olmeval.requests import Instance, Sampling
from olmeval.tasks.documents import Document, load_split
from olmeval.tasks.families import Catalogue, Entry, bpb_twin, forms_of, load_catalogue
from olmeval.tasks.formats import Renderer, documents, generations, instances
from olmeval.tasks.olmes import from_olmes
from olmeval.tasks.schema import GRADERS, Family, Form, overlaid
from olmeval.tasks.shots import SEED, Shots, load_shots
from olmeval.tasks.spec import FORMATS, Spec, parse, with_parts

CHOICE_METRICS = ("acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "bits_per_byte")
# What every sampled task of OLMo 3's base evaluation uses, infilling aside.
SAMPLED = {"temperature": 0.6, "top_p": 0.6}


@dataclass(frozen=True)
class Definition:
    """A spec with every default filled in."""

    spec: Spec
    entry: Entry
    form: Form
    split: str
    limit: int | None
    notes: tuple[str, ...]

    @property
    def format(self) -> str:
        return str(self.spec.format)

    @property
    def primary(self) -> str:
        """The form's primary metric; of several samples of an exact answer, pass@1."""
        sampled = self.form.sampling is not None and self.form.sampling.n > 1
        if sampled and self.form.primary == "exact_match":
            return "pass_at_1"
        return self.form.primary

    @property
    def metrics(self) -> tuple[str, ...]:
        if self.form.metrics is not None:
            return tuple(self.form.metrics)
        if self.format in ("bpb", "ppl"):
            return ("bits_per_byte",)
        if self.form.grader is not None and self.form.sampling is not None:
            return self._graded(self.form.grader, self.form.sampling.n)
        extra = ("acc_uncond",) if self.form.primary == "acc_uncond" else ()
        return (*CHOICE_METRICS[:-1], *extra, "bits_per_byte")

    def _graded(self, grader: str, n: int) -> tuple[str, ...]:
        per_sample = GRADERS[grader.partition(":")[0]]
        ks = sorted({*(2**e for e in range(n.bit_length())), n})
        passed = tuple(f"pass_at_{k}" for k in ks)
        if not per_sample:
            return passed
        if n == 1:
            return per_sample
        if self.form.primary == "exact_match":
            return (*passed, *(f"maj_at_{k}" for k in ks), *per_sample)
        return (*per_sample, *passed)


@dataclass(frozen=True)
class Task:
    """A task that is ready to be asked: documents and shots are in memory."""

    name: str
    format: str
    metrics: tuple[str, ...]
    primary_metric: str
    grader: str | None
    hash: str
    provenance: dict[str, Any]
    definition: Definition = field(repr=False)
    documents: tuple[Document, ...] = field(repr=False)
    shots: Shots = field(repr=False)

    def instances(self) -> list[Instance]:
        """One instance a document, in order."""
        form = self.definition.form
        cluster = self.definition.entry.family.cluster
        renderer = Renderer(form, letters=self.format == "mc")
        if self.format == "ppl":
            return documents(self.documents, renderer, cluster, form.group)
        if form.sampling is not None:
            asked = form.sampling.model_dump()
            sampling = Sampling(**{**asked, "stop": tuple(asked["stop"])})
            return generations(self.documents, renderer, self.shots, sampling, cluster, form.group)
        return instances(
            self.documents,
            renderer,
            self.shots,
            only_gold=self.format == "bpb",
            unconditional=form.unconditional if "acc_uncond" in self.metrics else None,
            cluster=cluster,
        )


def load_task(
    spec: str,
    limit: int | float | None = None,
    task_paths: Sequence[Path] = (),
    *,
    metrics: Sequence[str] = (),
) -> Task:
    """The task that ``spec`` names.

    ``limit``: at most so many documents (int) or this fraction of them (float), sampled with seed
    1234; it replaces the limit of the spec's variant. ``task_paths``: folders with further
    catalogue files. ``metrics``: metrics wanted beside the task's own (``acc_uncond`` adds the
    unconditional requests). Raises :class:`UserError`.
    """
    definition = resolve(spec, task_paths)
    extra = _extra_metrics(definition, metrics)
    entry = definition.entry

    def split_of(split: str) -> tuple[list[Document], list[dict[str, Any]]]:
        return load_split(entry.name, entry.family, split, entry.folder)

    everything, origin = split_of(definition.split)
    docs = sample_docs(everything, definition.limit if limit is None else limit)
    name = str(definition.spec)
    renderer = Renderer(definition.form, letters=definition.format == "mc")
    count = definition.spec.shots or 0
    shots = load_shots(name, definition.form, count, split_of, renderer.shot)
    if definition.form.unseen:
        shown = set(shots.texts)
        docs = [doc for doc in docs if renderer.shot(doc) not in shown]
    return Task(
        name=name,
        format=definition.format,
        metrics=(*definition.metrics, *extra),
        primary_metric=definition.primary,
        grader=definition.form.grader,
        hash=_hash(definition, origin, shots, limit),
        provenance={
            "data": origin,
            "split": definition.split,
            "documents": len(docs),
            "documents_available": len(everything),
            "limit": definition.limit if limit is None else limit,
            "num_shots": count,
            "shots": shots.provenance,
            "deviations": list(definition.notes),
        },
        definition=definition,
        documents=tuple(docs),
        shots=shots,
    )


def _extra_metrics(definition: Definition, metrics: Sequence[str]) -> tuple[str, ...]:
    extra = tuple(m for m in metrics if m not in definition.metrics)
    for metric in extra:
        if metric != "acc_uncond" or definition.form.unconditional is None:
            raise UserError(
                f"task '{definition.spec}' cannot give '{metric}'; it gives"
                f" {', '.join(definition.metrics)}"
            )
    return extra


def _hash(
    definition: Definition, origin: list[dict[str, Any]], shots: Shots, limit: int | float | None
) -> str:
    data = [{k: o.get(k) for k in ("sha256", "fingerprint", "split")} for o in origin]
    return sha256_json(
        {
            "spec": str(definition.spec),
            "form": definition.form.model_dump(exclude={"shots"}),
            "readings": {
                name: reading.model_dump()
                for name, reading in definition.entry.family.readings.items()
            },
            "cluster": definition.entry.family.cluster,
            "data": data,
            "limit": definition.limit if limit is None else limit,
            "shots": shots.fingerprint(),
        }
    )[:16]


def sample_docs(docs: Sequence[Document], limit: int | float | None) -> list[Document]:
    """At most ``limit`` documents (a float: that fraction, rounded up).

    When there are more: ``random.Random(1234).sample(docs, limit)``, so their order changes
    (as OLMES has it, github.com/allenai/olmes).
    """
    if limit is None:
        return list(docs)
    if isinstance(limit, float):
        if not 0 < limit <= 1:
            raise UserError(f"limit {limit} is a fraction and must be above 0 and at most 1")
        limit = math.ceil(len(docs) * limit)
    if limit < 1:
        raise UserError(f"limit {limit} must be at least 1")
    if limit >= len(docs):
        return list(docs)
    return random.Random(SEED).sample(docs, limit)


def expand(specs: Sequence[str], task_paths: Sequence[Path] = ()) -> list[str]:
    """Groups and aliases to canonical specs of single tasks, in order, each once."""
    catalogue = load_catalogue(task_paths)
    result: dict[str, None] = {}
    for text in specs:
        spec = _parse_known(text, catalogue)
        for family in catalogue.groups.get(spec.family, (spec.family,)):
            member = Spec(family, spec.format, spec.variants, spec.shots, spec.samples)
            result[str(_define(member, text, catalogue).spec)] = None
    return list(result)


def resolve(text: str, task_paths: Sequence[Path] = ()) -> Definition:
    """The full definition of one task; raises :class:`UserError` for a group."""
    catalogue = load_catalogue(task_paths)
    spec = _parse_known(text, catalogue)
    if spec.family in catalogue.groups:
        members = catalogue.groups[spec.family]
        raise UserError(
            f"'{text}' is a group of {len(members)} tasks; name one, for example '{members[0]}'"
        )
    return _define(spec, text, catalogue)


def _parse_known(text: str, catalogue: Catalogue) -> Spec:
    """Parses a spec (ours or OLMES') and checks that its family or group exists."""
    name, regime = from_olmes(text, catalogue.aliases)
    spec = parse(name)
    family = spec.family
    if family not in catalogue.entries and family not in catalogue.groups:
        raise UserError(f"unknown task '{text}'{nearest(family, catalogue.names())}")
    if regime is not None:
        first = catalogue.groups.get(family, (family,))[0]
        spec = apply_regime(spec, regime, catalogue.entries[first].family, text)
    return spec


def apply_regime(spec: Spec, regime: str, family: Family, text: str) -> Spec:
    """Adds what OLMES' ``::regime`` means for this family."""
    default = {"none": "", "olmes:full": "", "olmes": "olmes" if "olmes" in family.variants else ""}
    known = {**default, **{name: name for name in family.variants}, **family.regimes}
    if regime not in known:
        raise UserError(f"task '{text}': unknown regime '{regime}'{nearest(regime, known)}")
    parts = [part for part in known[regime].split(":") if part]
    if spec.format is not None:
        parts = [part for part in parts if part not in FORMATS]
    return with_parts(spec, parts, text)


def _define(spec: Spec, text: str, catalogue: Catalogue) -> Definition:
    entry = catalogue.entries[spec.family]
    family = entry.family
    form_name = spec.format or family.default
    forms = forms_of(family)
    if form_name not in forms:
        raise UserError(
            f"task '{text}': '{spec.family}' has no format '{form_name}'; it has"
            f" {', '.join(sorted(forms))}"
        )
    # A bpb twin is made of its rc form last, so that it follows what a variant changes there.
    own = form_name if form_name in dict(family.formats) else "rc"
    form, split, limit, notes = forms[own], family.split, None, list(family.notes)
    for name in spec.variants:
        if name not in family.variants:
            known = [*family.variants, *forms]
            has = f"it has {', '.join(family.variants)}" if family.variants else "it has none"
            raise UserError(
                f"task '{text}': '{spec.family}' has no variant '{name}' ({has})"
                f"{nearest(name, known)}"
            )
    # In the order of the catalogue, so that the order in the spec changes nothing.
    for name, variant in family.variants.items():
        if name not in spec.variants:
            continue
        overlays = [changes for key, changes in variant.formats.items() if key in ("all", own)]
        if not (variant.split or variant.limit or overlays):
            raise UserError(f"task '{text}': '{name}' does not apply to the format '{form_name}'")
        split, limit = variant.split or split, variant.limit or limit
        notes.append(f"{name}: {variant.summary}")
        for changes in overlays:
            form = overlaid(form, changes)
    if own != form_name:
        form = bpb_twin(form)
    shots = form.num_shots if spec.shots is None else spec.shots
    form, samples = _with_samples(form, form_name, spec.samples, text, notes)
    full = Spec(spec.family, form_name, spec.variants, shots, samples)
    return Definition(full, entry, form, split, limit, tuple(notes))


def _with_samples(
    form: Form, form_name: str, asked: int | None, text: str, notes: list[str]
) -> tuple[Form, int | None]:
    """``form`` with the number of samples asked for, and how the canonical spec tells it."""
    if form.sampling is None:
        if asked is not None:
            raise UserError(
                f"task '{text}': 'n{asked}' asks for samples, but the format '{form_name}'"
                " generates nothing"
            )
        return form, None
    if asked is None or asked == form.sampling.n:
        return form, form.sampling.n if form.sampling.n > 1 else None
    changes: dict[str, Any] = {"n": asked}
    if asked > 1 and form.sampling.temperature == 0:
        changes |= SAMPLED
        notes.append("Several samples of a greedy task: temperature 0.6, top_p 0.6, as OLMo 3 has.")
    return overlaid(form, {"sampling": changes}), asked
