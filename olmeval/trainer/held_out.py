"""Documents of the demo corpus's own domains that no model saw, as tasks in bits per byte.

They are those that follow in a domain's stream after its last training document. Prose is taken
from the same modules as code, so what the two share is left out of both: a document of prose that
stands in the training code, and documentation and comments of held-out modules. Facts and sums
recur, as that is what is to be learned.
"""

import ast
import json
import warnings
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import write_text
from olmeval.trainer.corpus import DOMAINS, document_streams
from olmeval.trainer.shards import load_manifest

USEFUL = tuple(domain for domain in DOMAINS if domain != "noise")
DOCUMENTS, CHARACTERS = 64, 1500
FAMILY = """\
  held_out_{domain}:
    summary: "What follows the demo corpus's documents of the domain {domain}."
    split: test
    splits: {{test: [{{file: held_out_{domain}.jsonl}}]}}
    readings:
      raw:
        fields: {{id: "{{id}}", text: "{{text}}"}}
    default: ppl
    formats:
      ppl: {{prompt: "", target: "{{text}}", primary: bits_per_byte, num_shots: 0}}
"""


def held_out_documents(
    corpus: Path, domains: Sequence[str] = USEFUL, count: int = DOCUMENTS
) -> dict[str, list[str]]:
    """At most ``count`` documents of each domain, none of them in the ``corpus``.

    Documents are cut at 1,500 characters. Raises :class:`UserError` where a domain is used up:
    CPython has 0.7 M tokens of prose, so ask for a smaller corpus.
    """
    manifest = load_manifest(corpus)
    streams = document_streams()
    trained = {d: sum(s.docs for s in manifest.shards(d)) for d in DOMAINS}
    code = _squeezed("\n".join(islice(streams["code"], trained["code"])))
    found = {}
    for domain in domains:
        start = 0 if domain == "code" else trained[domain]  # the stream of code stands there
        unseen = (_fit(domain, text, code) for text in islice(streams[domain], start, None))
        found[domain] = list(islice((text for text in unseen if text), count))
        if len(found[domain]) < count:
            raise UserError(
                f"'{corpus}' holds nearly all there is of '{domain}': {len(found[domain])} "
                f"documents are left, {count} are needed; build it with --size 600000"
            )
    return found


def write_held_out_tasks(
    corpus: Path, folder: Path, domains: Sequence[str] = USEFUL
) -> tuple[str, ...]:
    """Writes a task ``held_out_<domain>`` for each domain into ``folder``, and returns the names.

    ``folder`` then is a task path. Raises :class:`UserError` as :func:`held_out_documents` does.
    """
    families = ["families:\n"]
    for domain, texts in held_out_documents(corpus, domains).items():
        rows = [json.dumps({"id": f"{domain}-{k}", "text": text}) for k, text in enumerate(texts)]
        write_text(folder / f"held_out_{domain}.jsonl", "\n".join(rows) + "\n")
        families.append(FAMILY.format(domain=domain))
    write_text(folder / "held_out.yaml", "".join(families))
    return tuple(f"held_out_{domain}" for domain in domains)


def _fit(domain: str, text: str, code: str) -> str:
    """What of a document counts as unseen; nothing: leave it out."""
    if domain == "code":
        text = _bare(text)
    elif domain == "prose" and _squeezed(text)[:200] in code:
        return ""
    return text[:CHARACTERS].strip()


def _squeezed(text: str) -> str:
    """Without marks of comments and layout, which differ between prose and where it is from."""
    return "".join(text.replace("#", "").split())


def _bare(source: str) -> str:
    """A module without documentation strings and whole-line comments; nothing if it is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return ""
    gone: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            gone.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    kept = [
        line for number, line in enumerate(lines, 1)
        if number not in gone and not line.lstrip().startswith("#")
    ]  # fmt: skip
    return "\n".join(kept)
