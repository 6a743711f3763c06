"""DROP metrics: exact match and aligned bag F1 over one or more answer spans.

Definitions are those of the official evaluation (Dua et al. 2019, section 5; AllenNLP
``drop_eval.py``); OLMES uses them for DROP and NaturalQs. An answer is one span or several. Spans
become bags (sets) of normalised tokens, bags of prediction and gold are aligned one to one so that
the summed F1 is greatest, and the sum is divided by the larger number of spans. F1 is rounded to
two decimals, as published.
"""

import re
import string
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

Answer = str | Sequence[str]
Bag = frozenset[str]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_SEPARATOR = re.compile("[ -]")


def normalize(text: str) -> str:
    """Tokens split at spaces and hyphens, lower case, numbers as ``str(float)``, words bare.

    A token is a number when Python's float() reads it, so "inf" and "1_0" are numbers, too: a
    property of the published script that is kept.
    """
    tokens = (_normalize_token(token) for token in _SEPARATOR.split(text))
    return " ".join(token for token in tokens if token)


def score(prediction: Answer, golds: Sequence[Answer]) -> tuple[float, float]:
    """(exact match, F1), each the best over the gold answers, in [0, 1].

    A gold answer whose first span is blank is skipped, as in the harnesses that publish DROP.
    Raises ValueError when no gold answer is left.
    """
    usable = [_spans(gold) for gold in golds]
    usable = [spans for spans in usable if spans and spans[0].strip()]
    if not usable:
        raise ValueError("a question without a gold answer cannot be scored")
    predicted = _spans(prediction)
    return (
        max(_exact_match(predicted, gold) for gold in usable),
        max(_f1(predicted, gold) for gold in usable),
    )


def _spans(answer: Answer) -> list[str]:
    return [answer] if isinstance(answer, str) else list(answer)


def _exact_match(predicted: list[str], gold: list[str]) -> float:
    ours, theirs = [normalize(span) for span in predicted], [normalize(span) for span in gold]
    # Sets and numbers of spans, so {x, x, y} matches {x, y, y}: the published definition.
    return float(set(ours) == set(theirs) and len(ours) == len(theirs))


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted:
        return 0.0
    ours, theirs = [_bag(span) for span in predicted], [_bag(span) for span in gold]
    table = np.array([[_bag_f1(mine, bag) for mine in ours] for bag in theirs])
    rows, columns = linear_sum_assignment(table, maximize=True)
    aligned = np.zeros(max(len(ours), len(theirs)))
    aligned[rows] = table[rows, columns]
    # numpy's rounding (22.5 -> 22), as published; Python's round() differs in the last digit.
    return float(np.round(aligned.mean(), 2))


def _bag(span: str) -> Bag:
    return frozenset(normalize(span).split())


def _bag_f1(predicted: Bag, gold: Bag) -> float:
    """F1 of two token sets; 0 when the gold bag has numbers and shares none of them."""
    numbers = {token for token in gold if _is_number(token)}
    if numbers and not numbers & predicted:
        return 0.0
    common = len(predicted & gold)
    precision = common / len(predicted) if predicted else 1.0
    recall = common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normalize_token(token: str) -> str:
    token = token.lower()
    if not _is_number(token):
        token = token.translate(_PUNCTUATION)
    if _is_number(token):
        token = str(float(token))
    return " ".join(_ARTICLE.sub(" ", token).split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
