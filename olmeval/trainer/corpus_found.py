"""Text that every CPython carries: source code, prose, and a noisy shuffle of the prose.

Tests, encoding tables and generated files are left out: some distributions do not ship them, and
the point is that machines with the same Python get the same documents.
"""

import ast
import inspect
import os
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings"}
SKIPPED |= {"pydoc_data", "lib2to3", "distutils", "ensurepip", "__pycache__", "turtledemo"}
WORD = re.compile(r"[A-Za-z][a-z]+")
# A documentation string shorter than this says little more than the name it belongs to.
MIN_PROSE = 80


def source_files() -> list[Path]:
    """The standard library's own modules, in an order that does not depend on the file system."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)  # os.walk descends into what is left here
        found += [
            Path(folder, name)
            for name in names
            if name.endswith(".py")
            and not name.startswith(("_sysconfigdata", "sitecustomize", "usercustomize"))
        ]
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def code() -> list[str]:
    """Every module of the standard library, shuffled with a fixed seed, a document each."""
    documents = [text for text in map(_read, source_files()) if text.strip()]
    random.Random("code").shuffle(documents)
    return documents


def prose() -> list[str]:
    """Language topics of ``pydoc``, documentation strings and long comments, shuffled."""
    from pydoc_data.topics import topics

    documents = [topics[name].strip() for name in sorted(topics)]
    for path in source_files():
        text = _read(path)
        documents.extend(_docstrings(text))
        documents.extend(_comments(text))
    documents = list(dict.fromkeys(documents))
    random.Random("prose").shuffle(documents)
    return documents


def words(documents: list[str], n: int) -> list[str]:
    """The ``n`` commonest plain lower-case words of 3 to 9 letters, commonest first."""
    counts: dict[str, int] = {}
    for document in documents:
        for word in WORD.findall(document):
            if 3 <= len(word) <= 9 and word.islower():
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))[:n]


def noise(documents: list[str]) -> Iterator[str]:
    """Endless documents of the words of ``documents`` in random order: frequencies, no sense."""
    rng = random.Random("noise")
    pool = [word for document in documents for word in document.split()]
    while True:
        yield " ".join(rng.choices(pool, k=rng.randint(50, 400)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def _docstrings(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return
    for node in [tree, *_definitions(tree)]:
        text = ast.get_docstring(node, clean=False)
        if text and len(text) >= MIN_PROSE:
            yield inspect.cleandoc(text)


def _definitions(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions below ``node``; expressions, most of a tree, are not visited."""
    for child in [*getattr(node, "body", []), *getattr(node, "orelse", [])]:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        yield from _definitions(child)


def _comments(source: str) -> Iterator[str]:
    """Blocks of whole-line comments, without the marks."""
    for block in re.findall(r"(?:^[ \t]*#[^\n]*\n)+", source, flags=re.MULTILINE):
        text = re.sub(r"^[ \t]*#+ ?", "", block, flags=re.MULTILINE).strip()
        if len(text) >= 2 * MIN_PROSE and len(WORD.findall(text)) >= 25:
            yield text
