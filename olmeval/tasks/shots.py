"""Few-shot prefixes: sampled, first of a split, by native id, or recovered from the pulled data.

No shot text is part of this repository: it is read from a data set at run time, or cut out of the
prefix of a rendered request in the pulled data.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from olmeval.errors import UserError
from olmeval.files import sha256_json
from olmeval.tasks.documents import Document
from olmeval.tasks.schema import Form, ShotSource
from olmeval.tasks.sources import Absent, first_context

SEED = 1234
SEPARATOR = "\n\n"

LoadSplit = Callable[[str], tuple[list[Document], list[dict[str, Any]]]]
RenderShot = Callable[[Document], str]


@dataclass(frozen=True)
class Shots:
    """The shots of one task. ``texts`` are rendered; ``owners`` are their documents' ids.

    With ``exclude_self`` there is one text more than ``count``, and the evaluated document's own
    is left out.
    """

    description: str
    texts: tuple[str, ...]
    owners: tuple[str, ...]
    count: int
    exclude_self: bool
    provenance: dict[str, Any]

    def prefix(self, native_id: str) -> str:
        """Everything that stands before the query of the document ``native_id``."""
        texts = self.texts
        if self.exclude_self:
            texts = tuple(
                text
                for text, owner in zip(self.texts, self.owners, strict=True)
                if owner != native_id
            )
        return self.description + "".join(text + SEPARATOR for text in texts[: self.count])

    def fingerprint(self) -> str:
        """Hash of all text that the shots may put into a prompt."""
        return sha256_json([self.description, self.texts, self.count, self.exclude_self])


def load_shots(
    name: str, form: Form, count: int, load_split: LoadSplit, render: RenderShot
) -> Shots:
    """The first source of ``form.shots`` at hand, cut to ``count`` shots.

    Raises :class:`UserError` when the task has no source of shots, or too few.
    """
    if count == 0:
        return Shots(form.description, (), (), 0, False, {"kind": "none"})
    if not form.shots:
        raise UserError(f"task '{name}' has no source of shots; ask for ':0shot'")
    reasons = []
    absent = False
    for source in form.shots:
        try:
            return _load(source, name, form, count, load_split, render)
        except (Absent, TooFewError) as reason:
            absent |= isinstance(reason, Absent)
            reasons.append(str(reason))
    kind = Absent if absent else UserError
    raise kind(f"task '{name}': no source of {count} shots: {'; '.join(reasons)}")


class TooFewError(UserError):
    """A source holds fewer shots than were asked for."""


def _load(
    source: ShotSource,
    name: str,
    form: Form,
    count: int,
    load_split: LoadSplit,
    render: RenderShot,
) -> Shots:
    if source.recover is not None:
        texts = recover(source, form.description)
        if len(texts) < count:
            raise TooFewError(f"'{source.recover}' carries {len(texts)}, not {count}")
        provenance = {"kind": "recovered", "name": source.recover}
        return Shots(form.description, texts[:count], (), count, False, provenance)
    split = source.sample or source.first or str(source.split)
    pool, origin = load_split(split)
    drawn = _draw(source, pool, count, name)
    kind = "sample" if source.sample else "first" if source.first else "ids"
    return Shots(
        form.description,
        tuple(render(doc) for doc in drawn),
        tuple(str(doc["id"]) for doc in drawn),
        count,
        source.exclude_self,
        {"kind": kind, "split": split, "exclude_self": source.exclude_self, "origin": origin},
    )


def _draw(
    source: ShotSource, pool: Sequence[Document], count: int, name: str
) -> Sequence[Document]:
    """The documents that ``source`` names (rules of OLMES, github.com/allenai/olmes)."""
    if source.ids is not None:
        by_id = {str(doc["id"]): doc for doc in pool}
        if missing := [i for i in source.ids if i not in by_id]:
            raise UserError(f"task '{name}': the split '{source.split}' has no id '{missing[0]}'")
        drawn: Sequence[Document] = [by_id[i] for i in source.ids]
    elif source.first is not None:
        drawn = pool
    else:
        wanted = count + source.exclude_self
        if len(pool) >= wanted:
            return random.Random(SEED).sample(pool, wanted)
        drawn = pool
    if len(drawn) < count + source.exclude_self:
        raise TooFewError(f"the split holds {len(drawn)} documents, not {count}")
    return drawn[:count]


def recover(source: ShotSource, description: str) -> tuple[str, ...]:
    """The shots in the first rendered request of a pulled folder.

    The context is the description, ``count`` shots and the query; ``cut`` is the regular
    expression between them. Raises :class:`UserError` when the parts are not ``count`` + 1.
    """
    context = first_context(str(source.recover))
    if not context.startswith(description):
        raise UserError(f"the pulled '{source.recover}' does not start with the description")
    blocks = re.split(source.cut, context[len(description) :])
    if len(blocks) != int(source.count or 0) + 1:
        raise UserError(
            f"the pulled '{source.recover}' has {len(blocks) - 1} shots, not {source.count}"
        )
    return tuple(blocks[:-1])
