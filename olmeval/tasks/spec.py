"""The grammar of task specs: ``family[:format][:variant...][:Nshot][:nK]``.

Parts after the family come in any order; the canonical form has them in the order above, variants
sorted. ``n8`` asks for eight samples a question. This module knows syntax only; which families,
variants and formats exist is the registry's business.
"""

import re
from dataclasses import dataclass
from typing import TypeVar

from olmeval.errors import UserError

FORMATS = ("mc", "rc", "bpb", "genqa", "cot", "code", "fim", "ppl")

T = TypeVar("T")

_FAMILY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHOTS = re.compile(r"(0|[1-9][0-9]*)shots?")
_SAMPLES = re.compile(r"n([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Spec:
    """One parsed task spec; ``None`` means that the family's own default applies."""

    family: str
    format: str | None = None
    variants: tuple[str, ...] = ()
    shots: int | None = None
    samples: int | None = None

    def __str__(self) -> str:
        parts = [self.family]
        if self.format is not None:
            parts.append(self.format)
        parts += self.variants
        if self.shots is not None:
            parts.append(f"{self.shots}shot")
        if self.samples is not None:
            parts.append(f"n{self.samples}")
        return ":".join(parts)


def parse(text: str) -> Spec:
    """Parses ``text``; ``parse(str(spec)) == spec`` for every spec.

    Raises :class:`UserError` that names the offending part.
    """
    family, *parts = text.strip().split(":")
    if not _FAMILY.fullmatch(family):
        raise UserError(
            f"task '{text}': '{family}' is not a family name;"
            " the form is family[:format][:variant][:Nshot], for example arc_easy:rc:5shot"
        )
    return with_parts(Spec(family), parts, text)


def with_parts(spec: Spec, parts: list[str], text: str) -> Spec:
    """``spec`` with further ``parts`` added; each kind of part may be given once."""
    form, shots, samples = spec.format, spec.shots, spec.samples
    variants = set(spec.variants)
    for part in parts:
        if part in FORMATS:
            form = _once(form, part, "format", text)
        elif match := _SHOTS.fullmatch(part):
            shots = _once(shots, int(match.group(1)), "number of shots", text)
        elif match := _SAMPLES.fullmatch(part):
            samples = _once(samples, int(match.group(1)), "number of samples", text)
        elif _VARIANT.fullmatch(part):
            variants.add(part)
        else:
            raise UserError(f"task '{text}': '{part}' is not a format, variant or number of shots")
    return Spec(spec.family, form, tuple(sorted(variants)), shots, samples)


def _once(old: T | None, new: T, what: str, text: str) -> T:
    if old is not None and old != new:
        raise UserError(f"task '{text}': two values for the {what} ('{old}' and '{new}')")
    return new
