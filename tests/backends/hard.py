"""Log-likelihood requests with everything that scorers are known to get wrong."""

import pydoc_data.topics
import random

from olmeval.requests import Request

UNICODE = ("наука", "数学の問題", "naïve café", "🦊🚀", "ﬁ ligature", "e\u0301", "\u00a0space")


def hard_requests(n: int, seed: int = 0) -> list[Request]:
    """``n`` distinct requests: kinds of difficulty in turn, shared prefixes in abundance."""
    rng = random.Random(seed)
    words = " ".join(pydoc_data.topics.topics.values()).split()

    def text(count: int) -> str:
        start = rng.randrange(len(words) - count)
        return " ".join(words[start : start + count])

    shots = "".join(f"Question: {text(12)}\nAnswer: {text(3)}\n\n" for _ in range(3))
    long = text(1500)
    found: dict[Request, None] = {}
    while len(found) < n:
        question = f"{shots}Question: {text(8)}\nAnswer:"
        kinds = [
            [(question, f" {text(k)}") for k in (1, 2, 2, 5)],  # choices of one question
            [(question, f" {letter}") for letter in "ABCD"],  # one token each
            [("", text(rng.randint(1, 6))), ("", f" {text(2)}")],  # nothing before
            [(question + " " * rng.randint(1, 3), text(2)), (f"{text(4)}\n\n", text(1))],
            [(question, f"  {text(2)}"), (text(3), "  x")],  # two leading spaces
            [(long + question, f" {text(rng.randint(1, 4))}")],  # longer than the window
            [(text(6), " " + text(105))],  # some 300 tokens
            [(f"{text(3)} {rng.choice(UNICODE)}", f" {rng.choice(UNICODE)}{rng.random():.3f}")],
            [(f"{shots}{text(5)}", "\n" + text(2)), (shots[:-1], "\n" + text(1))],
            [(text(2)[:-1], text(1)[-1:] + " " + text(1))],  # a seam inside a word
        ]
        for context, continuation in rng.choice(kinds):
            found[Request("loglikelihood", context, continuation)] = None
    return list(found)[:n]
