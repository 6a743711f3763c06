"""Generated arithmetic: plain equations, worked steps, word problems and school algebra.

Every number that is printed is computed here with integers, so each line is true.
"""

import random
from collections.abc import Callable, Iterator
from math import gcd

NAMES = ["Ada", "Ben", "Chen", "Dora", "Eli", "Fatima", "Goran", "Hana", "Ivan", "Juno", "Kofi"]
NAMES += ["Lea", "Marco", "Nina", "Omar", "Priya", "Rosa", "Sven", "Tariq", "Uma", "Vera", "Yusuf"]
THINGS = ["apples", "books", "coins", "pencils", "stamps", "marbles", "tickets", "shells", "cards"]
THINGS += ["stones", "eggs", "flowers", "keys", "buttons", "nails", "plates", "cups", "stickers"]


def arithmetic(seed: str = "arithmetic") -> Iterator[str]:
    """Endless documents; each keeps to one style, as a page of exercises does."""
    rng = random.Random(seed)
    while True:
        kind = rng.random()
        if kind < 0.45:
            yield "\n\n".join(_equation(rng) for _ in range(rng.randint(10, 40)))
        elif kind < 0.6:
            yield "\n".join(rng.choice(WORKED)(rng) for _ in range(rng.randint(4, 10)))
        elif kind < 0.75:
            yield "\n\n".join(_word_problem(rng) for _ in range(rng.randint(2, 5)))
        else:
            yield "\n\n".join(_algebra(rng) for _ in range(rng.randint(2, 4)))


def _number(rng: random.Random) -> int:
    """Mostly one or two digits, as people practise."""
    return rng.randint(0, rng.choice([9, 20, 20, 99, 99, 999]))


def _term(rng: random.Random) -> tuple[str, int]:
    kind = rng.random()
    if kind < 0.5:
        a = _number(rng)
        return str(a), a
    if kind < 0.75:
        a, b = rng.randint(1, 12), rng.randint(1, 12)
        return f"{a} * {b}", a * b
    a, b = rng.randint(1, 12), rng.randint(1, 12)
    return f"{a * b} / {a}", b


def _equation(rng: random.Random) -> str:
    kind = rng.random()
    a, b = _number(rng), _number(rng)
    if kind < 0.22:
        return f"{a} + {b} = {a + b}"
    if kind < 0.42:
        return f"{a} - {b} = {a - b}"
    if kind < 0.57:
        a, b = rng.randint(0, 20), rng.randint(0, 12)
        return f"{a} * {b} = {a * b}"
    if kind < 0.68:
        a, b = rng.randint(1, 12), rng.randint(1, 20)
        return f"{a * b} / {a} = {b}"
    if kind < 0.74:
        a, n = rng.choice(
            [(rng.randint(1, 20), 2), (rng.randint(1, 6), 3), (2, rng.randint(0, 10))]
        )
        return f"{a}^{n} = {a**n}"
    if kind < 0.8:
        a, b, c = rng.randint(1, 20), rng.randint(1, 20), rng.randint(1, 9)
        sign = rng.choice([1, -1])
        return f"({a} {'+' if sign > 0 else '-'} {b}) * {c} = {(a + sign * b) * c}"
    if kind < 0.83:
        a, b = rng.randint(10, 99), rng.randint(2, 9)
        return f"{a} mod {b} = {a % b}"
    text, value = _term(rng)
    for _ in range(rng.randint(1, 2)):
        more, amount = _term(rng)
        sign = rng.choice([1, -1])
        text, value = f"{text} {'+' if sign > 0 else '-'} {more}", value + sign * amount
    return f"{text} = {value}"


def _column_sum(rng: random.Random) -> str:
    a, b = rng.randint(10, 999), rng.randint(10, 999)
    steps, carry, place = [], 0, 1
    while a // place or b // place:
        x, y = a // place % 10, b // place % 10
        total = x + y + carry
        carried = f" + {carry}" if carry else ""
        steps.append(f"{x} + {y}{carried} = {total}, write {total % 10}, carry {total // 10}")
        carry, place = total // 10, place * 10
    return f"Add {a} and {b}. {'; '.join(steps)}. So {a} + {b} = {a + b}."


def _product(rng: random.Random) -> str:
    a, b = rng.randint(11, 99), rng.randint(11, 99)
    tens, ones = b // 10 * 10, b % 10
    return (
        f"Multiply {a} by {b}. {a} * {tens} = {a * tens} and {a} * {ones} = {a * ones}. "
        f"{a * tens} + {a * ones} = {a * b}. So {a} * {b} = {a * b}."
    )


def _division(rng: random.Random) -> str:
    a, b = rng.randint(20, 300), rng.randint(2, 12)
    q, r = divmod(a, b)
    rest = f"remainder {a} - {q * b} = {r}" if r else "nothing remains"
    return f"Divide {a} by {b}. {q} * {b} = {q * b}, {rest}. The quotient is {q}."


def _precedence(rng: random.Random) -> str:
    a, b, c = rng.randint(1, 50), rng.randint(2, 12), rng.randint(2, 12)
    return f"{a} + {b} * {c} = {a} + {b * c} = {a + b * c}."


def _greatest_divisor(rng: random.Random) -> str:
    g = rng.randint(2, 12)
    a, b = g * rng.randint(2, 15), g * rng.randint(2, 15)
    steps, x, y = [], max(a, b), min(a, b)
    while y:
        steps.append(f"{x} = {x // y} * {y} + {x % y}")
        x, y = y, x % y
    return f"Find gcd({a}, {b}). {'; '.join(steps)}. So gcd({a}, {b}) = {gcd(a, b)}."


WORKED: list[Callable[[random.Random], str]] = [
    _column_sum,
    _product,
    _division,
    _precedence,
    _greatest_divisor,
]


def _word_problem(rng: random.Random) -> str:
    one, two = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    a, b, c = rng.randint(5, 60), rng.randint(2, 40), rng.randint(2, 9)
    match rng.randrange(5):
        case 0:
            question = f"{one} has {a} {thing} and gets {b} more. How many {thing} are there now?"
            steps, answer = f"{a} + {b} = {a + b}.", a + b
        case 1:
            a += b
            question = f"{one} has {a} {thing} and gives {b} of them to {two}. How many are left?"
            steps, answer = f"{a} - {b} = {a - b}.", a - b
        case 2:
            question = f"{one} fills {c} boxes with {a} {thing} each. How many {thing} is that?"
            steps, answer = f"{c} * {a} = {a * c}.", a * c
        case 3:
            question = (
                f"{one} and {c - 1} friends share {a * c} {thing} equally. "
                f"How many {thing} does each of them get?"
            )
            steps, answer = f"They are {c} people. {a * c} / {c} = {a}.", a
        case _:
            question = (
                f"{one} buys {b} packs of {c} {thing} and already had {a} {thing}. "
                f"How many {thing} does {one} have in all?"
            )
            steps = f"The packs hold {b} * {c} = {b * c} {thing}. {a} + {b * c} = {a + b * c}."
            answer = a + b * c
    return f"Question: {question}\nAnswer: {steps} So the answer is {answer}."


def _algebra(rng: random.Random) -> str:
    """A problem with its solution, written in LaTeX as textbooks do."""
    match rng.randrange(6):
        case 0:
            a, x, b = rng.randint(2, 12), rng.randint(-12, 12), rng.randint(1, 30)
            problem = f"Solve ${a}x + {b} = {a * x + b}$ for $x$."
            solution = (
                f"Subtracting ${b}$ from both sides gives ${a}x = {a * x}$. Dividing both sides by "
                f"${a}$ gives $x = \\boxed{{{x}}}$."
            )
        case 1:
            p, q = rng.randint(1, 9), rng.randint(1, 9)
            problem = f"What are the roots of $x^2 - {p + q}x + {p * q} = 0$?"
            roots = f"{p}" if p == q else f"{min(p, q)}, {max(p, q)}"
            solution = (
                f"Two numbers with sum ${p + q}$ and product ${p * q}$ are ${p}$ and ${q}$, so the "
                f"left side factors as $(x - {p})(x - {q})$. The roots are $\\boxed{{{roots}}}$."
            )
        case 2:
            a, b = rng.randint(1, 9), rng.randint(2, 12)
            c, d = rng.randint(1, 9), rng.randint(2, 12)
            top, bottom = a * d + b * c, b * d
            g = gcd(top, bottom)
            value = f"{top // g}" if bottom == g else f"\\frac{{{top // g}}}{{{bottom // g}}}"
            problem = f"Compute $\\frac{{{a}}}{{{b}}} + \\frac{{{c}}}{{{d}}}$ in lowest terms."
            solution = (
                f"The common denominator is ${b} \\cdot {d} = {bottom}$, so the sum is "
                f"$\\frac{{{a * d} + {b * c}}}{{{bottom}}} = \\frac{{{top}}}{{{bottom}}}"
                f" = \\boxed{{{value}}}$."
            )
        case 3:
            m, k, x = rng.randint(2, 12), rng.randint(-20, 20), rng.randint(-9, 9)
            problem = f"If $f(x) = {m}x + ({k})$, what is $f({x})$?"
            solution = (
                f"We have $f({x}) = {m} \\cdot ({x}) + ({k}) = {m * x} + ({k}) "
                f"= \\boxed{{{m * x + k}}}$."
            )
        case 4:
            w, h = rng.randint(2, 30), rng.randint(2, 30)
            problem = f"A rectangle has sides ${w}$ and ${h}$. Find its area and its perimeter."
            solution = (
                f"The area is ${w} \\cdot {h} = {w * h}$ and the perimeter is $2({w} + {h}) "
                f"= {2 * (w + h)}$. The answer is $\\boxed{{{w * h}, {2 * (w + h)}}}$."
            )
        case _:
            part, whole = rng.randint(1, 19) * 5, rng.randint(1, 40) * 20
            problem = f"What is ${part}\\%$ of ${whole}$?"
            solution = (
                f"This is $\\frac{{{part}}}{{100}} \\cdot {whole} = "
                f"\\boxed{{{part * whole // 100}}}$."
            )
    return f"Problem:\n{problem}\n\nSolution: {solution}"
