"""What a catalogue file may say: the pydantic models of ``catalogue/*.yaml``.

A file holds families. A family says where its documents come from (``splits``: for each split, the
places to look, best first), how a raw row becomes the document that templates see (``readings``),
and what a prompt looks like (``formats``). ``variants`` overlay parts of that. One family
definition can stand for many (``each``): ``$name`` in any text is replaced.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from olmeval.config import Config
from olmeval.errors import UserError, nearest
from olmeval.tasks.hooks import HOOKS
from olmeval.tasks.template import compile_template

CHOICE_METRICS = (
    "acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond",
    "bits_per_byte", "greedy_acc",
)  # fmt: skip
# What a grader gives each sample; a name may go on with ":" and a detail (``bbh:navigate``).
GRADERS: dict[str, tuple[str, ...]] = {
    "squad": ("f1", "exact_match", "recall"),
    "drop": ("f1", "exact_match"),
    "gsm8k": ("exact_match",),
    "gsm8k_fixed": ("exact_match",),
    "minerva": ("exact_match", "exact_match_flex", "exact_match_verified"),
    "bbh": ("exact_match",),
    "bbh_fixed": ("exact_match",),
    "mmlu_pro_cot": ("exact_match",),
    "deepmind_math": ("exact_match",),
    "code": (),
}
FormatName = Literal["mc", "rc", "bpb", "genqa", "cot", "code", "fim", "ppl"]
GENERATED = ("genqa", "cot", "code", "fim")


class Place(Config):
    """Where rows are: exactly one of ``requests``, ``table``, ``hub``, ``file`` and ``copy``.

    ``requests`` and ``table`` are folders of the pulled data (rendered requests; Arrow tables);
    ``hub`` is a Hugging Face data set or a local folder in its layout; ``file`` is a local
    JSONL, Parquet or Arrow file, relative to the catalogue file that names it; ``copy`` is a file
    below the folder ``$OLMEVAL_DATA`` of what is on no hub, and ``origin`` says where to get it.
    """

    requests: str | None = None
    table: str | None = None
    hub: str | None = None
    file: str | None = None
    copy_: str | None = Field(default=None, alias="copy")
    origin: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    reading: str = "raw"

    @model_validator(mode="after")
    def _one_kind(self) -> "Place":
        kinds = ("requests", "table", "hub", "file", "copy_")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError("name exactly one of requests, table, hub, file and copy")
        if (self.copy_ is None) != (self.origin is None):
            raise ValueError("'copy' and 'origin' go together")
        if self.hub is None and (self.config or self.revision or self.split):
            raise ValueError("'config', 'split' and 'revision' belong to a 'hub' place")
        return self


def _check_templates(*templates: str) -> None:
    try:
        for template in templates:
            compile_template(template)
    except UserError as error:  # pydantic adds file and key to a ValueError
        raise ValueError(str(error)) from None


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None


class Match(Config):
    """Group 1 of ``pattern`` matched against the whole of ``match`` (dot matches newlines)."""

    match: str
    pattern: str


class IndexOf(Config):
    """The position of ``index`` in ``of`` (a template of a list, or a literal list)."""

    index: str
    of: str | list[str]


class Reading(Config):
    """How a raw row becomes a document: ``where``, an optional hook over all rows, then ``fields``.

    ``where`` keeps the rows whose columns have these values. Without ``fields`` the row is the
    document. ``{_index}`` is the row's position in its split.
    """

    where: dict[str, str] | None = None
    prepare: str | None = None
    fields: dict[str, str | list[str] | Match | IndexOf] | None = None

    @model_validator(mode="after")
    def _templates(self) -> "Reading":
        if self.prepare is not None and self.prepare not in HOOKS:
            raise ValueError(f"unknown hook '{self.prepare}'{nearest(self.prepare, HOOKS)}")
        for expression in (self.fields or {}).values():
            if isinstance(expression, Match):
                _check_templates(expression.match)
                if _regex(expression.pattern).groups != 1:
                    raise ValueError(f"the pattern {expression.pattern!r} needs one group")
            elif isinstance(expression, IndexOf):
                of = [expression.of] if isinstance(expression.of, str) else []
                _check_templates(expression.index, *of)
            else:
                _check_templates(*([expression] if isinstance(expression, str) else expression))
        return self


class ShotSource(Config):
    """Where shots come from: exactly one of ``recover``, ``sample``, ``first`` and ``ids``.

    ``recover``: the prefix of the first rendered request of a pulled folder, cut into ``count``
    blocks at ``cut``. ``sample``: ``random.Random(1234).sample`` of a split; with
    ``exclude_self`` one more is drawn and the evaluated document is dropped. ``first``: the first
    documents of a split. ``ids``: documents of ``split`` by native id, in that order.
    """

    recover: str | None = None
    count: int | None = None
    cut: str = r"\n\n"
    sample: str | None = None
    exclude_self: bool = False
    first: str | None = None
    ids: list[str] | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "ShotSource":
        given = [k for k in ("recover", "sample", "first", "ids") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError("name exactly one of recover, sample, first and ids")
        if (self.recover is None) != (self.count is None):
            raise ValueError("'recover' and 'count' go together")
        if (self.ids is None) != (self.split is None):
            raise ValueError("'ids' and 'split' go together")
        _regex(self.cut)
        if self.exclude_self and self.sample is None:
            raise ValueError("'exclude_self' belongs to 'sample'")
        return self


class SamplingForm(Config):
    """How a generation samples and where it ends; greedy and once unless it says otherwise."""

    stop: list[str] = Field(default_factory=list)
    max_tokens: int = Field(gt=0)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    n: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _usable(self) -> "SamplingForm":
        if "" in self.stop:
            raise ValueError("an empty stop sequence would end every answer at once")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"{self.n} samples at temperature 0 are {self.n} equal samples")
        return self


class Form(Config):
    """One format of a family: the prompt, what is scored after it, and how it is judged.

    Templates see the document's fields and ``choice`` (the choice being scored), ``letter`` and
    ``lettered`` (the list `` A. first`` ... joined by newlines). A ``prompt`` that refers to
    ``choice`` gives every choice its own context.

    A format that generates has ``sampling``, a ``grader`` and ``references``: the accepted answers,
    a list of templates or the template of a list. An answer may be a list of parts: the spans of
    DROP; for the grader ``code`` what stands before the answer in the program to run, what stands
    behind it (infilling alone), and the tests. ``answer_prefix`` stands after the query, but not in
    a shot. The format ``ppl`` scores ``target`` as a document; ``group`` is its source.
    ``unseen`` leaves out documents that are among the shots of every prompt.
    """

    prompt: str
    answer_prefix: str = ""
    sampling: SamplingForm | None = None
    grader: str | None = None
    references: str | list[str | list[str]] | None = None
    group: str | None = None
    unseen: bool = False
    target: str = " {choice}"
    shot: str | None = None
    choices: str = "{choices}"
    gold: str = "{gold}"
    description: str = ""
    unconditional: str | None = None
    primary: str
    metrics: list[str] | None = None
    num_shots: int = Field(ge=0)
    shots: tuple[ShotSource, ...] = ()

    @model_validator(mode="after")
    def _templates(self) -> "Form":
        _check_templates(self.prompt, self.target, self.shot or "", self.choices, self.gold)
        _check_templates(self.answer_prefix, self.group or "")
        for reference in (
            [self.references] if isinstance(self.references, str) else (self.references or [])
        ):
            _check_templates(*([reference] if isinstance(reference, str) else reference))
        generates = self.sampling is not None
        if generates != (self.grader is not None) or generates != (self.references is not None):
            raise ValueError("'sampling', 'grader' and 'references' go together")
        known: tuple[str, ...] = CHOICE_METRICS
        if self.grader is not None:
            family = self.grader.partition(":")[0]
            if family not in GRADERS:
                raise ValueError(f"unknown grader '{self.grader}'{nearest(family, GRADERS)}")
            known = (*GRADERS[family], "pass_at_1")
        for metric in (self.primary, *(self.metrics or [])):
            if metric not in known:
                raise ValueError(
                    f"'{metric}' is not a metric here; there are {', '.join(known)}"
                    f"{nearest(metric, known)}"
                )
        return self


def check_form(name: str, form: Form) -> None:
    """Whether ``form`` holds what the format ``name`` needs; raises :class:`ValueError`."""
    if (name in GENERATED) != (form.sampling is not None):
        does = "generates and needs" if name in GENERATED else "generates nothing and takes no"
        raise ValueError(f"the format '{name}' {does} 'sampling', 'grader' and 'references'")
    if name == "ppl" and (form.shots or form.num_shots or form.prompt):
        raise ValueError("the format 'ppl' scores whole documents: it takes no prompt and no shots")
    rendered = [s for s in form.shots if s.recover is None]
    if name in GENERATED and rendered and form.shot is None:
        raise ValueError(f"the format '{name}' needs a 'shot' template for its source of shots")


def overlaid(form: Form, changes: dict[str, Any]) -> Form:
    """``form`` with some keys replaced (of ``sampling``: some of its keys).

    Raises :class:`ValueError` that names the wrong one.
    """
    old = form.model_dump()
    if isinstance(old["sampling"], dict) and isinstance(changes.get("sampling"), dict):
        changes = {**changes, "sampling": {**old["sampling"], **changes["sampling"]}}
    try:
        return Form.model_validate({**old, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"a variant's '{key}': {first['msg']}") from None


class Variant(Config):
    """What a variant changes. ``formats`` overlays keys of one format, or of ``all``."""

    summary: str
    split: str | None = None
    limit: int | None = Field(default=None, gt=0)
    formats: dict[FormatName | Literal["all"], dict[str, Any]] = Field(default_factory=dict)


class Family(Config):
    """A benchmark: its documents, formats and variants.

    ``aliases`` and ``regimes`` map another name, or what stands after OLMES' ``::``, to parts of
    a spec. ``notes`` are what a reader of the score should know.
    """

    summary: str
    aliases: dict[str, str] = Field(default_factory=dict)
    split: str
    splits: dict[str, list[Place]]
    readings: dict[str, Reading] = Field(default_factory=lambda: {"raw": Reading()})
    cluster: str | None = None
    default: FormatName
    formats: dict[FormatName, Form]
    variants: dict[str, Variant] = Field(default_factory=dict)
    regimes: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Family":
        if self.default not in self.formats:
            raise ValueError(f"the default format '{self.default}' is not among the formats")
        for own, form in self.formats.items():
            check_form(own, form)
        wanted = {"the family": self.split}
        wanted.update(
            {f"variant '{name}'": v.split for name, v in self.variants.items() if v.split}
        )
        for where, split in wanted.items():
            if split != "all" and split not in self.splits:
                raise ValueError(f"{where} uses the split '{split}', which 'splits' does not have")
        for name, variant in self.variants.items():
            for key, changes in variant.formats.items():
                if key != "all" and key not in self.formats:
                    raise ValueError(
                        f"variant '{name}' changes the format '{key}', which is not here"
                    )
                for kind, form in self.formats.items():
                    if key in ("all", kind):
                        check_form(kind, overlaid(form, changes))
        for places in self.splits.values():
            for place in places:
                if place.reading not in self.readings:
                    raise ValueError(f"no reading '{place.reading}' in 'readings'")
        return self


class CatalogueFile(Config):
    """A whole file of the catalogue.

    ``groups`` maps a name to families (``*`` matches any text, ``!`` before a name takes it out
    again). ``shared`` holds what YAML anchors
    point at and is not read itself.
    """

    families: dict[str, Family]
    groups: dict[str, list[str]] = Field(default_factory=dict)
    shared: Any = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        families = value.get("families") if isinstance(value, dict) else None
        if not isinstance(families, dict):
            return value
        expanded: dict[str, Any] = {}
        for name, family in families.items():
            expanded.update(_expand_each(name, family))
        return {**value, "families": expanded}


_FORMS: list[tuple[str, Callable[[str], str]]] = [
    ("_words", lambda text: text.replace("_", " ")),
    ("", str),
]


def _expand_each(name: str, family: Any) -> dict[str, Any]:
    """The families that one definition with ``each`` stands for; itself without.

    ``each`` is a list of replacements (``{name: text}``), or ``{name: [texts]}`` for a single one.
    ``$name_words`` is the text with its underscores as spaces.
    """
    if not isinstance(family, dict) or "each" not in family:
        return {name: family}
    each = family["each"]
    if isinstance(each, dict) and len(each) == 1:
        ((key, texts),) = each.items()
        each = [{key: text} for text in texts]
    if not (isinstance(each, list) and all(isinstance(item, dict) for item in each)):
        raise ValueError(f"{name}: 'each' must be {{name: [texts]}} or a list of {{name: text}}")
    rest = {key: value for key, value in family.items() if key != "each"}
    # Longer names first: "$a_words" holds "$a".
    each = [
        {key + suffix: change(str(text)) for suffix, change in _FORMS for key, text in item.items()}
        for item in each
    ]
    return {_replace(name, item): _replace(rest, item) for item in each}


def _replace(value: Any, replacements: dict[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in replacements.items():
            value = value.replace(f"${old}", new)
        return value
    if isinstance(value, dict):
        return {_replace(k, replacements): _replace(v, replacements) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace(item, replacements) for item in value]
    return value
