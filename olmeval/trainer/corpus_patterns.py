"""Generated exercises on strings and sequences: copy, reverse, sort, count, continue.

Words come from the prose of the corpus; results are computed by Python's own string methods.
"""

import random
import string
from collections.abc import Callable, Iterator, Sequence

CYCLES = [
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    ["January", "February", "March", "April", "May", "June",
     "July", "August", "September", "October", "November", "December"],
    ["north", "east", "south", "west"],
    ["spring", "summer", "autumn", "winter"],
]  # fmt: skip
ORDERS = [
    ["morning", "noon", "afternoon", "evening", "night"],
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"],
    ["do", "re", "mi", "fa", "sol", "la", "ti"],
    ["red", "orange", "yellow", "green", "blue", "indigo", "violet"],
]


def patterns(words: Sequence[str], seed: str = "patterns") -> Iterator[str]:
    """Endless documents of 10 to 40 exercises, either on strings or on sequences."""
    rng = random.Random(seed)
    while True:
        make = rng.choice([_string_exercise, _sequence, _transformation])
        separator = rng.choice(["\n\n", "\n\n", "\n"])
        yield separator.join(make(rng, words) for _ in range(rng.randint(10, 40)))


def _word(rng: random.Random, words: Sequence[str]) -> str:
    """A real word, or letters without a meaning, so that spelling is read and not recalled."""
    if rng.random() < 0.6:
        return rng.choice(words)
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7)))


def _say(rng: random.Random, phrases: Sequence[str], result: object) -> str:
    return f"{rng.choice(phrases)} {rng.choice(['is', 'is', 'gives', 'yields'])} {result}"


def _string_exercise(rng: random.Random, words: Sequence[str]) -> str:
    w, v = _word(rng, words), _word(rng, words)
    letter = rng.choice(w)
    match rng.randrange(16):
        case 0:
            return _say(rng, [f"The reverse of '{w}'", f"'{w}' written backwards"], w[::-1])
        case 1:
            return _say(rng, [f"The length of '{w}'", f"The number of letters in '{w}'"], len(w))
        case 2:
            return _say(rng, [f"'{w}' in upper case", f"Converting '{w}' to uppercase"], w.upper())
        case 3:
            phrases = [f"'{w.upper()}' in lower case", f"Converting '{w.upper()}' to lowercase"]
            return _say(rng, phrases, w)
        case 4:
            phrases = [f"'{w}' with a capital letter", f"Capitalizing '{w}'"]
            return _say(rng, phrases, w.capitalize())
        case 5:
            return _say(rng, [f"Appending '{v}' to '{w}'", f"'{w}' followed by '{v}'"], w + v)
        case 6:
            return _say(rng, [f"Putting '{v}' before '{w}'", f"Joining '{v}' and '{w}'"], v + w)
        case 7:
            other = rng.choice(string.ascii_lowercase)
            phrases = [
                f"Replacing '{letter}' with '{other}' in '{w}'",
                f"'{w}' with every '{letter}' changed to '{other}'",
            ]
            return _say(rng, phrases, w.replace(letter, other))
        case 8:
            phrases = [f"The count of '{letter}' in '{w}'", f"How often '{letter}' is in '{w}'"]
            return _say(rng, phrases, w.count(letter))
        case 9:
            return _say(rng, [f"The first letter of '{w}'"], w[0])
        case 10:
            return _say(rng, [f"The last letter of '{w}'"], w[-1])
        case 11:
            n = min(rng.randint(2, 3), len(w))
            start, text = rng.choice([("first", w[:n]), ("last", w[-n:])])
            return _say(rng, [f"The {start} {n} letters of '{w}'"], text)
        case 12:
            return _say(rng, [f"Sorting the letters of '{w}'"], "".join(sorted(w)))
        case 13:
            n = rng.randint(2, 4)
            return _say(rng, [f"Repeating '{w[:3]}' {n} times"], w[:3] * n)
        case 14:
            number, n = str(rng.randint(0, 999)), rng.randint(3, 6)
            return _say(rng, [f"'{number}' padded with zeros to {n} digits"], number.zfill(n))
        case _:
            kept = "".join(c for c in w if c not in "aeiou")
            return _say(rng, [f"'{w}' without its vowels"], kept or "empty")


def _sequence(rng: random.Random, words: Sequence[str]) -> str:
    n = rng.randint(4, 8)
    letters = string.ascii_uppercase
    match rng.randrange(10):
        case 0:
            start, step = rng.randint(0, 60), rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 25])
            items = [str(start + i * step) for i in range(n)]
            items = items[:: rng.choice([1, 1, -1])]
        case 1:
            start, ratio = rng.randint(1, 6), rng.choice([2, 2, 3, 5, 10])
            items = [str(start * ratio**i) for i in range(min(n, 6))]
        case 2:
            start = rng.randint(1, 12)
            items = [str((start + i) ** 2) for i in range(n)]
        case 3:
            a, b = rng.randint(0, 5), rng.randint(1, 6)
            items = []
            for _ in range(n):
                items.append(str(a))
                a, b = b, a + b
        case 4:
            start, step = rng.randint(0, 25), rng.choice([1, 1, 2, 3, 4, 5, -1, -2])
            items = [letters[(start + i * step) % 26] for i in range(n)]
        case 5:
            period = rng.sample(words, rng.randint(2, 3))
            items = [period[i % len(period)] for i in range(n)]
        case 6:
            cycle = rng.choice(CYCLES)
            start = rng.randrange(len(cycle))
            items = [cycle[(start + i) % len(cycle)] for i in range(min(n, len(cycle)))]
        case 7:
            order = rng.choice(ORDERS)
            start = rng.randint(0, len(order) - 3)
            items = order[start : start + n]
        case 8:
            start, step = rng.randint(0, 20), rng.randint(1, 3)
            items = [f"{letters[(start + i * step) % 26]}{i + 1}" for i in range(n)]
        case _:
            unit = rng.choice(letters)
            items = [unit * (i + 1) for i in range(min(n, 6))]
    return " ".join(items)


def _sorted(items: list[str]) -> list[str]:
    return sorted(items, key=lambda item: (len(item), item) if item.isdigit() else (0, item))


TRANSFORMATIONS: dict[str, Callable[[list[str]], list[str]]] = {
    "copy": lambda items: items,
    "reverse": lambda items: items[::-1],
    "sort": _sorted,
    "double": lambda items: [item for item in items for _ in range(2)],
    "swap ends": lambda items: [items[-1], *items[1:-1], items[0]],
    "unique": lambda items: list(dict.fromkeys(items)),
    "smallest": lambda items: _sorted(items)[:1],
    "every second": lambda items: items[::2],
    "rotate": lambda items: [*items[1:], items[0]],
}


def _transformation(rng: random.Random, words: Sequence[str]) -> str:
    n = rng.randint(3, 7)
    kind = rng.randrange(3)
    if kind == 0:
        items = [str(rng.randint(0, 99)) for _ in range(n)]
    elif kind == 1:
        items = [rng.choice(words) for _ in range(n)]
    else:
        items = list(rng.choices(string.ascii_lowercase[: rng.randint(3, 26)], k=n))
    name = rng.choice(sorted(TRANSFORMATIONS))
    return f"{name}: {' '.join(items)} -> {' '.join(TRANSFORMATIONS[name](items))}"
