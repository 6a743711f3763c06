"""SQuAD metrics of short free-form answers: exact match, token F1, gold recall.

Definitions are those of the official SQuAD v1.1 evaluation (Rajpurkar et al. 2016, section 4;
``evaluate-v1.1.py``), as OLMES uses them for SQuAD, CoQA, Jeopardy and TriviaQA. Every metric takes
the best over the gold answers, lies in [0, 1] and raises ValueError without a gold answer.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalize(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 when the normalised prediction equals a normalised gold answer."""
    return _best(lambda gold: float(normalize(prediction) == normalize(gold)), golds)


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over multisets of normalised tokens.

    Without a common token the value is 0, also for two empty answers, as in the official script.
    """
    return _best(lambda gold: _token_f1(prediction, gold), golds)


def recall(prediction: str, golds: Sequence[str]) -> float:
    """1.0 when a gold answer is a substring of the prediction, both merely lower-cased (OLMES)."""
    return _best(lambda gold: float(gold.lower() in prediction.lower()), golds)


def _token_f1(prediction: str, gold: str) -> float:
    predicted, wanted = normalize(prediction).split(), normalize(gold).split()
    common = (Counter(predicted) & Counter(wanted)).total()
    # 2PR/(P+R) with P = common/|predicted| and R = common/|wanted|.
    return 2.0 * common / (len(predicted) + len(wanted)) if common else 0.0


def _best(metric: Callable[[str], float], golds: Sequence[str]) -> float:
    if not golds:
        raise ValueError("a question without a gold answer cannot be scored")
    return max(metric(gold) for gold in golds)
