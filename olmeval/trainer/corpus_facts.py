"""Generated facts and deductions: a small table of school knowledge said in many ways, and logic.

The table is common knowledge written for this corpus. Deductions use invented nouns as often as
real ones, so that the form of an argument can be learned apart from what it is about.
"""

import random
from collections.abc import Iterator


def _pairs(text: str) -> dict[str, str]:
    """``a: x, b: y`` as a dictionary."""
    return {key: value for key, _, value in (pair.partition(": ") for pair in text.split(", "))}


# Relation: (statement, question, {subject: value}).
FACTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "capital": (
        "The capital of {s} is {v}",
        "Which city is the capital of {s}?",
        _pairs(
            "France: Paris, Germany: Berlin, Italy: Rome, Spain: Madrid, Portugal: Lisbon, "
            "Japan: Tokyo, China: Beijing, India: New Delhi, Egypt: Cairo, Kenya: Nairobi, "
            "Canada: Ottawa, Brazil: Brasilia, Argentina: Buenos Aires, Peru: Lima, "
            "Chile: Santiago, Norway: Oslo, Sweden: Stockholm, Finland: Helsinki, "
            "Denmark: Copenhagen, Poland: Warsaw, Austria: Vienna, Greece: Athens, "
            "Hungary: Budapest, Ireland: Dublin, Australia: Canberra, Cuba: Havana, "
            "Thailand: Bangkok, Vietnam: Hanoi, Turkey: Ankara, Iran: Tehran"
        ),
    ),
    "legs": (
        "Count of legs: {s}, {v}",
        "On how many legs does a {s} stand?",
        _pairs(
            "dog: four, horse: four, cow: four, spider: eight, beetle: six, butterfly: six, "
            "chicken: two, duck: two, snake: zero, scorpion: eight, lizard: four, bee: six"
        ),
    ),
    "class": (
        "A {s} is a kind of {v}",
        "To which group of animals does the {s} belong?",
        _pairs(
            "dog: mammal, whale: mammal, bat: mammal, horse: mammal, rabbit: mammal, "
            "eagle: bird, penguin: bird, sparrow: bird, parrot: bird, salmon: fish, "
            "trout: fish, shark: fish, frog: amphibian, toad: amphibian, newt: amphibian, "
            "lizard: reptile, snake: reptile, turtle: reptile, crocodile: reptile, "
            "bee: insect, beetle: insect, moth: insect, grasshopper: insect"
        ),
    ),
    "young": (
        "The young of a {s} is called a {v}",
        "What is the young of a {s} called?",
        _pairs(
            "dog: puppy, cat: kitten, cow: calf, horse: foal, sheep: lamb, goat: kid, "
            "duck: duckling, hen: chick, bear: cub, frog: tadpole, deer: fawn, goose: gosling"
        ),
    ),
    "symbol": (
        "The chemical symbol of {s} is {v}",
        "What is the chemical symbol of {s}?",
        _pairs(
            "hydrogen: H, helium: He, carbon: C, nitrogen: N, oxygen: O, sodium: Na, "
            "magnesium: Mg, aluminum: Al, silicon: Si, sulfur: S, chlorine: Cl, "
            "potassium: K, calcium: Ca, iron: Fe, copper: Cu, zinc: Zn, silver: Ag, "
            "gold: Au, mercury: Hg, lead: Pb, tin: Sn, neon: Ne, iodine: I"
        ),
    ),
    "unit": (
        "The unit used to measure {s} is the {v}",
        "Which unit measures {s}?",
        _pairs(
            "length: meter, mass: kilogram, time: second, temperature: degree, force: newton, "
            "energy: joule, power: watt, current: ampere, voltage: volt, frequency: hertz, "
            "pressure: pascal, resistance: ohm"
        ),
    ),
    "tool": (
        "The instrument that measures {s} is the {v}",
        "Which instrument would a student use to measure {s}?",
        {
            "temperature": "thermometer", "air pressure": "barometer", "weight": "scale",
            "wind speed": "anemometer", "length": "ruler", "time": "stopwatch",
            "the volume of a liquid": "graduated cylinder", "earthquakes": "seismograph",
            "humidity": "hygrometer", "angles": "protractor", "direction": "compass",
        },
    ),
    "organ": (
        "The organ that {s} is the {v}",
        "Which organ of the body {s}?",
        {
            "pumps blood": "heart", "takes in oxygen from the air": "lungs",
            "digests food with acid": "stomach", "controls thought and movement": "brain",
            "filters waste from the blood": "kidney", "sees light": "eye", "hears sound": "ear",
            "smells odors": "nose", "covers and protects the body": "skin",
            "makes bile": "liver", "tastes food": "tongue",
        },
    ),
    "planet": (
        "Counted from the Sun, {s} is the {v} planet",
        "Counted from the Sun, which place does {s} have among the planets?",
        _pairs(
            "Mercury: first, Venus: second, Earth: third, Mars: fourth, Jupiter: fifth, "
            "Saturn: sixth, Uranus: seventh, Neptune: eighth"
        ),
    ),
    "process": (
        "When {s}, the process is called {v}",
        "What is the name of the process in which {s}?",
        {
            "a liquid turns into a gas": "evaporation", "a gas turns into a liquid": "condensation",
            "a solid turns into a liquid": "melting", "a liquid turns into a solid": "freezing",
            "plants make sugar from sunlight": "photosynthesis",
            "wind and water carry soil away": "erosion", "rain and snow fall": "precipitation",
            "a solid turns directly into a gas": "sublimation",
            "rocks break into small pieces": "weathering",
            "cells split in two": "cell division", "cells release energy from sugar": "respiration",
            "pollen moves from flower to flower": "pollination",
        },
    ),
    "opposite": (
        "The opposite of {s} is {v}",
        "Which word is the opposite of {s}?",
        _pairs(
            "hot: cold, big: small, fast: slow, up: down, light: dark, early: late, "
            "open: closed, wet: dry, hard: soft, full: empty, old: new, near: far, "
            "loud: quiet, heavy: light, rough: smooth, strong: weak, deep: shallow"
        ),
    ),
    "color": (
        "The usual color of {s} is {v}",
        "What color is {s}?",
        {
            "grass": "green", "snow": "white", "a ripe banana": "yellow", "coal": "black",
            "the clear daytime sky": "blue", "blood": "red", "a carrot": "orange", "milk": "white",
            "an emerald": "green", "a ruby": "red", "a lemon": "yellow", "chocolate": "brown",
        },
    ),
    "sides": (
        "The number of sides of a {s} is {v}",
        "How many sides does a {s} have?",
        _pairs(
            "triangle: three, square: four, rectangle: four, pentagon: five, hexagon: six, "
            "heptagon: seven, octagon: eight, decagon: ten"
        ),
    ),
    "resource": (
        "The energy of {s} is {v}",
        "Is the energy of {s} renewable or nonrenewable?",
        _pairs(
            "wind: renewable, sunlight: renewable, coal: nonrenewable, oil: nonrenewable, "
            "tides: renewable, rivers: renewable, uranium: nonrenewable, natural gas: nonrenewable"
        ),
    ),
}  # fmt: skip

KINDS = ["painters", "sailors", "robots", "trees", "rivers", "engines", "dancers", "planets"]
KINDS += ["poems", "kings", "farmers", "clocks", "bridges", "tigers", "violins", "lamps", "bakers"]
TRAITS = ["patient", "green", "heavy", "noisy", "bright", "curious", "warm", "hollow", "honest"]
TRAITS += ["round", "brave", "quiet", "fragile", "sweet", "clever", "slow", "wild", "careful"]
NAMES = ["Alma", "Boris", "Cleo", "Dmitri", "Edda", "Felix", "Greta", "Hugo", "Iris", "Jonas"]
EVENTS = [
    ("it rains", "the street is wet"), ("the switch is on", "the fan turns"),
    ("the alarm rings", "the cat wakes up"), ("the oven is hot", "the bread bakes"),
    ("the sun sets", "the owls fly out"), ("the gate is open", "the sheep leave"),
    ("the battery is empty", "the radio is silent"), ("the wind blows", "the flag moves"),
    ("the river floods", "the bridge closes"), ("the bell rings", "the lesson ends"),
]  # fmt: skip
SO = ["So", "Hence", "Therefore", "Thus"]


def facts(seed: str = "facts") -> Iterator[str]:
    """Endless documents: statements, questions with answers, or deductions."""
    rng = random.Random(seed)
    while True:
        make = rng.choice([_statement, _question, _deduction])
        yield "\n\n".join(make(rng) for _ in range(rng.randint(5, 20)))


def _fact(rng: random.Random) -> tuple[str, str, str, str]:
    statement, question, values = FACTS[rng.choice(sorted(FACTS))]
    subject = rng.choice(sorted(values))
    return statement, question, subject, values[subject]


def _statement(rng: random.Random) -> str:
    statement, _, subject, value = _fact(rng)
    return statement.format(s=subject, v=value) + rng.choice(["", "", "."])


def _question(rng: random.Random) -> str:
    _, question, subject, value = _fact(rng)
    return f"Question: {question.format(s=subject)}\nAnswer: {value}"


def _noun(rng: random.Random) -> str:
    """A plural noun, invented half of the time."""
    if rng.random() < 0.5:
        return rng.choice(KINDS)
    parts = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))]
    return "".join(parts) + rng.choice(["ns", "ks", "ts", "ls"])


def _deduction(rng: random.Random) -> str:
    kind, other = _noun(rng), _noun(rng)
    trait, name, so = rng.choice(TRAITS), rng.choice(NAMES), rng.choice(SO)
    cause, effect = rng.choice(EVENTS)
    match rng.randrange(7):
        case 0:
            return f"All {kind} are {trait}. {name} is one of the {kind}. {so}, {name} is {trait}."
        case 1:
            return (
                f"No {kind} are {trait}. {name} is one of the {kind}. {so}, {name} is not {trait}."
            )
        case 2:
            return f"All {kind} are {other}. All {other} are {trait}. {so}, all {kind} are {trait}."
        case 3:
            return (
                f"All {kind} are {trait}. {name} is not {trait}. {so}, {name} is not one of the "
                f"{kind}."
            )
        case 4:
            return f"If {cause}, then {effect}. Now {cause}. {so}, {effect}."
        case 5:
            return (
                f"If {cause}, then {effect}. It is not true that {effect}. {so}, it is not true "
                f"that {cause}."
            )
        case _:
            a, b, c = rng.sample(NAMES, 3)
            word = rng.choice(["taller", "older", "faster", "stronger"])
            return f"{a} is {word} than {b}. {b} is {word} than {c}. {so}, {a} is {word} than {c}."
