"""What a model is asked, independent of task and backend.

A :class:`Request` is text; a backend's tokenizer turns it into ids, and the ids (with the model's
fingerprint and the sampling) make its key, so that one response serves every task that asks the
same thing.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["loglikelihood", "generate", "rolling"]
# An accepted answer of a generation; DROP's are several spans each.
Reference = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a ``generate`` request samples. Temperature 0 is greedy."""

    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    ``loglikelihood`` scores ``continuation`` after ``context``; ``generate`` continues ``context``
    under ``sampling``; ``rolling`` scores ``continuation`` as a whole document (context empty).
    """

    kind: Kind
    context: str
    continuation: str = ""
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A document in one format: the requests it needs and what counts as right.

    ``requests`` holds one request per choice (``mc``, ``rc``), or one (``bpb``, generation).
    ``unconditional`` is empty or parallel to ``requests`` (for PMI). ``gold`` indexes
    ``requests``; ``references`` are the accepted answers of a generation. Instances with the same
    ``cluster`` (questions about one passage) are not independent. ``group`` names the source of a
    document whose task reports by source.
    """

    doc_id: int
    native_id: str
    requests: tuple[Request, ...]
    unconditional: tuple[Request, ...] = ()
    gold: int | None = None
    references: tuple[Reference, ...] = ()
    cluster: str | None = None
    group: str | None = None
