"""The demo corpus: true exercises, stable bytes, a tokenizer that transformers loads."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.trainer import corpus, shards
from olmeval.trainer.corpus_arithmetic import arithmetic
from olmeval.trainer.corpus_facts import FACTS, facts
from olmeval.trainer.corpus_found import code, noise, prose, words
from olmeval.trainer.corpus_patterns import patterns
from olmeval.trainer.data_stats import data_stats

SIZE = 30_000
ARITHMETIC = r"(?: |\d|[-+*/^()]|mod)+"


@pytest.fixture(scope="module")
def found() -> tuple[list[str], list[str]]:
    return code(), prose()


@pytest.fixture(autouse=True)
def read_once(found: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds in this process share one reading of the standard library."""
    monkeypatch.setattr(corpus.corpus_found, "code", lambda: found[0])
    monkeypatch.setattr(corpus.corpus_found, "prose", lambda: found[1])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.build_demo_corpus(tmp_path_factory.mktemp("demo") / "corpus", SIZE, False)


def value_of(text: str) -> Fraction:
    """Evaluates an expression of integers, independently of the generator."""
    safe = re.sub(r"\d+", r"Fraction(\g<0>)", text.replace("^", "**").replace("mod", "%"))
    return Fraction(eval(safe, {"Fraction": Fraction}))


def test_every_equation_is_true() -> None:
    documents = list(islice(arithmetic(), 3000))
    found = 0
    for clause in re.split(r"[.,;:?\n]| and | remainder ", "\n".join(documents)):
        sides = re.sub(r"^[A-Za-z ]+", "", clause).split("=")
        balanced = all(side.count("(") == side.count(")") for side in sides)
        if len(sides) > 1 and balanced and all(re.fullmatch(ARITHMETIC, s) for s in sides):
            assert len({value_of(side.strip()) for side in sides}) == 1, clause
            found += 1
    assert found > 30_000
    divisors = re.findall(r"So gcd\((\d+), (\d+)\) = (\d+)", "\n".join(documents))
    assert len(divisors) > 200
    assert all(gcd(int(a), int(b)) == int(c) for a, b, c in divisors)


def test_algebra_answers() -> None:
    text = "\n\n".join(islice(arithmetic(), 4000))
    solved = re.findall(r"Solve \$(\d+)x \+ (\d+) = (-?\d+)\$ for.*?\\boxed\{(-?\d+)\}", text, re.S)
    sums = re.findall(
        r"Compute \$\\frac\{(\d+)\}\{(\d+)\} \+ \\frac\{(\d+)\}\{(\d+)\}\$.*?"
        r"\\boxed\{(?:\\frac\{(\d+)\}\{(\d+)\}|(\d+))\}",
        text,
        re.S,
    )
    roots = re.findall(r"\$x\^2 - (\d+)x \+ (\d+) = 0\$.*?\\boxed\{(\d+)(?:, (\d+))?\}", text, re.S)
    assert len(solved) > 200 and len(sums) > 200 and len(roots) > 200
    for a, b, c, x in solved:
        assert int(a) * int(x) + int(b) == int(c)
    for a, b, c, d, top, bottom, whole in sums:
        value = Fraction(int(a), int(b)) + Fraction(int(c), int(d))
        shown = (int(whole), 1) if whole else (int(top), int(bottom))
        assert (value.numerator, value.denominator) == shown
    for total, product, p, q in roots:
        one, two = int(p), int(q or p)
        assert one + two == int(total) and one * two == int(product)


def test_pattern_exercises_are_true() -> None:
    text = "\n".join(islice(patterns(["alpha", "beta", "gamma", "delta"]), 800))
    reverse = re.findall(r"The reverse of '(\w+)' (?:is|gives|yields) (\w+)", text)
    lengths = re.findall(r"The length of '(\w+)' (?:is|gives|yields) (\d+)", text)
    copies = re.findall(r"^copy: (.*) -> (.*)$", text, re.M)
    ordered = re.findall(r"^sort: ([\d ]+) -> ([\d ]+)$", text, re.M)
    assert min(map(len, (reverse, lengths, copies, ordered))) > 100
    assert all(list(a) == list(b)[::-1] for a, b in reverse)
    assert all(len(a) == int(n) for a, n in lengths)
    assert all(a == b for a, b in copies)
    assert all(sorted(map(int, a.split())) == list(map(int, b.split())) for a, b in ordered)


def test_facts_are_consistent() -> None:
    text = "\n\n".join(islice(facts(), 3000))
    for statement, question, values in FACTS.values():
        assert "{s}" in statement and "{v}" in statement and "{s}" in question
        assert all(values.values())
    capitals = set(re.findall(r"The capital of ([A-Z]\w+) is ([A-Z][\w ]+?)\.?$", text, re.M))
    assert len(capitals) == len(FACTS["capital"][2]) and ("France", "Paris") in capitals


def test_found_text_is_text_and_noise_is_its_words(found: tuple[list[str], list[str]]) -> None:
    modules, documents = found
    assert sum(map(len, modules)) > 4_000_000 and sum(map(len, documents)) > 1_000_000
    assert any("def loads(" in module for module in modules)
    assert len(documents) == len(set(documents))
    sample = next(noise(documents[:50]))
    assert set(sample.split()) <= {word for d in documents[:50] for word in d.split()}
    common = words(documents, 500)
    assert len(set(common)) == 500 and "the" in common[:5]


def test_folder_is_verified_and_sized(built: Path) -> None:
    manifest = shards.load_manifest(built, "hash")
    assert set(manifest.domains) == set(corpus.DOMAINS) and len(manifest.domains) >= 5
    assert manifest.eos_id == 0 and manifest.bos_id is None and manifest.vocab_size <= 4096
    for row in data_stats(built):
        assert SIZE <= row.tokens < 2 * SIZE, row
        assert row.bytes is not None and row.bytes > row.tokens


def test_shards_decode_to_the_documents(built: Path, found: tuple[list[str], list[str]]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(built / "tokenizer")
    manifest = shards.load_manifest(built)
    assert tokenizer.eos_token_id == manifest.eos_id == 0
    expected = {"arithmetic": next(arithmetic()), "code": found[0][0], "prose": found[1][0]}
    for domain, text in expected.items():
        (tokens,) = shards.open_domain(built, manifest, domain)
        (shard,) = manifest.domains[domain]
        end = int(shards.document_ends(built, shard, 0)[0])
        assert tokenizer.decode(tokens[: end - 1]) == text
        np.testing.assert_array_equal(tokenizer.encode(text), tokens[: end - 1])
    # No BOS and no EOS are added; digits stay single, so that place value can be learned.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a 325")) == ["a", "Ġ", "3", "2", "5"]


def test_text_cannot_produce_the_end_of_document(tmp_path: Path) -> None:
    sources = {"a": iter([f"before {corpus.EOS} after", "words " * 2000])}
    tokenizer, rewound = corpus._train_tokenizer(sources, 5000)
    assert next(iter(rewound["a"])).startswith("before")
    ids = tokenizer.encode(f"before {corpus.EOS} after").ids
    assert corpus.EOS_ID not in ids and tokenizer.token_to_id(corpus.EOS) == corpus.EOS_ID
    assert tokenizer.decode(ids) == f"before {corpus.EOS} after"


def files(root: Path) -> list[Path]:
    """All but what verification remembers, times of files among it."""
    return [p for p in root.rglob("*") if p.is_file() and p.name != ".verified.json"]


def test_another_process_makes_the_same_bytes(built: Path, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from olmeval.trainer.corpus import build_demo_corpus; "
        f"build_demo_corpus(pathlib.Path(sys.argv[1]), {SIZE}, False)"
    )
    environment = {"PYTHONHASHSEED": "77", "PATH": "", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "again")]
    subprocess.run(command, check=True, env=environment)
    ours = {p.relative_to(built): p.read_bytes() for p in files(built)}
    again = tmp_path / "again"
    theirs = {p.relative_to(again): p.read_bytes() for p in files(again)}
    assert ours == theirs


def test_builds_of_one_folder_at_once_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []
    build = corpus._build

    def counted(root: Path, *rest: Any) -> None:
        builds.append(root)
        build(root, *rest)

    monkeypatch.setattr(corpus, "_build", counted)
    with ThreadPoolExecutor(3) as pool:
        roots = pool.map(lambda _: corpus.build_demo_corpus(tmp_path / "c", SIZE, False), range(3))
        assert set(roots) == {tmp_path / "c"}
    assert len(builds) == 1
    data_stats(tmp_path / "c", verify="hash")


def test_built_once_and_repaired(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.rglob("*")}
    corpus.build_demo_corpus(built, SIZE, False)
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*")} == before
    shard = built / "code/00000.bin"
    data = shard.read_bytes()
    shard.write_bytes(data[:100])
    corpus.build_demo_corpus(built, SIZE, False)
    assert shard.read_bytes() == data


def test_other_settings_build_anew(tmp_path: Path) -> None:
    root = corpus.build_demo_corpus(tmp_path / "c", 10_000, False)
    first = (root / "corpus.json").read_text()
    settings = json.loads(first)
    settings["generators"] = "older code"
    (root / "corpus.json").write_text(json.dumps(settings))
    corpus.build_demo_corpus(root, 10_000, False)
    assert (root / "corpus.json").read_text() == first


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "large-disk")
    corpus.build_demo_corpus(tmp_path / "c", 10_000, False)
    assert (tmp_path / "c").is_symlink()
    assert (tmp_path / "large-disk/corpus.json").is_file()


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too small to train a tokenizer"):
        corpus.build_demo_corpus(tmp_path / "c", 10, False)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is not a demo corpus; choose another --output"):
        corpus.build_demo_corpus(tmp_path, 10_000, False)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_sequences_of_names_keep_their_order() -> None:
    lines = "\n".join(islice(patterns(["alpha", "beta", "gamma"]), 800)).split("\n")
    months = "January February March April May June July August September October November December"
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
    numbers = "one two three four five six seven eight nine ten"
    for names, cyclic in ((months, True), (days, True), (numbers, False)):
        longer = f"{names} {names}" if cyclic else names
        found = {line for line in lines if line and set(line.split()) <= set(names.split())}
        assert len(found) > 20
        assert all(line in longer for line in found)


def test_commands(built: Path) -> None:
    from click.testing import CliRunner

    from olmeval.cli.data import data

    run = CliRunner()
    again = run.invoke(data, ["demo-corpus", "--output", str(built), "--size", str(SIZE)])
    assert again.exit_code == 0 and again.output.strip() == str(built)
    shown = run.invoke(data, ["stats", str(built)])
    rows = json.loads(run.invoke(data, ["stats", str(built), "--verify", "--json"]).output)
    assert [row["domain"] for row in rows] == list(corpus.DOMAINS)
    for row in rows:
        assert f"{row['tokens']:,}" in shown.output and f"{row['bytes']:,}" in shown.output
    missing = run.invoke(data, ["stats", str(built / "nothing")])
    assert isinstance(missing.exception, UserError)
    assert "manifest.json' does not exist" in str(missing.exception)
