"""What a build reads, and which domains it becomes."""

from collections.abc import Sequence
from string import Formatter
from typing import Any, Literal

from pydantic import Field, field_validator

from olmeval.config import Config

HUB = "hf://"
Format = Literal["jsonl", "parquet", "dataset", "text", "tokens"]


class SourceSpec(Config):
    """Documents of one kind. Relative paths start at the current folder."""

    path: str = Field(min_length=1)
    """A file, a folder, a glob, a data set that was saved with ``save_to_disk``, or one of the
    hub: ``hf://org/name`` or ``hf://org/name@revision``."""
    domain: str | None = None
    """Name; ``{field}`` stands for a field of the document: "web/{metadata.topic}". Default: the
    folder of the file below ``path``, or else the name of ``path``."""
    format: Format | None = None
    """Default: by the names of the files."""
    text: str = "text"
    """The field that holds the text, in the same notation."""
    subset: str | None = None
    """Of a data set of the hub: its configuration."""
    split: str = "train"
    """Of a data set."""
    dtype: Literal["uint16", "uint32"] | None = None
    """Of headerless token files; default: the narrowest that holds the vocabulary."""

    @field_validator("domain")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is not None:
            parse_template(value)
        return value


class BuildSpec(Config):
    """A data folder to build."""

    tokenizer: str = Field(min_length=1)
    """A ``tokenizer.json``, a folder that holds one, or a model of the hub."""
    eos: str | None = None
    """The token that ends each document; default: the tokenizer's own."""
    sources: tuple[SourceSpec, ...] = Field(min_length=1)


def parse_template(text: str) -> list[tuple[str, str | None]]:
    """A domain's name as (literal, field that follows it or None); ``{{`` is a brace.

    Raises :class:`ValueError` with a sentence.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        parts = [(text, "", None, None)]
    if not text or any(name == "" or spec or convert for _, name, spec, convert in parts):
        raise ValueError(f"'{text}' is not a name such as 'web' or 'web/{{topic}}'")
    return [(literal, name) for literal, name, _, _ in parts]


def template_fields(text: str) -> tuple[str, ...]:
    """The fields that a domain's name is made of."""
    return tuple(name for _, name in parse_template(text) if name is not None)


def fill_template(parts: Sequence[tuple[str, str | None]], values: Sequence[Any]) -> str:
    """The name, with ``values`` in the order of the fields."""
    rest = iter(values)
    return "".join(literal + ("" if name is None else str(next(rest))) for literal, name in parts)


def literal(text: str) -> str:
    """The template that stands for ``text`` itself."""
    return text.replace("{", "{{").replace("}", "}}")
