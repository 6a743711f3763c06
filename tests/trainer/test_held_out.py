"""Held-out documents of the demo corpus are not in it, and are tasks."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from olmeval.errors import UserError
from olmeval.tasks.registry import load_task
from olmeval.trainer import corpus_found, held_out
from olmeval.trainer.corpus import build_demo_corpus
from olmeval.trainer.held_out import held_out_documents, write_held_out_tasks
from olmeval.trainer.shards import load_manifest, open_domain


@pytest.fixture(scope="module")
def found() -> tuple[list[str], list[str]]:
    return corpus_found.code(), corpus_found.prose()


@pytest.fixture(autouse=True)
def read_once(found: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_found, "code", lambda: found[0])
    monkeypatch.setattr(corpus_found, "prose", lambda: found[1])


@pytest.fixture
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once: the second time it is found."""
    root = tmp_path_factory.getbasetemp() / "held-out-corpus"
    return build_demo_corpus(root, 50_000, progress=False)


def squeezed(text: str) -> str:
    return "".join(text.replace("#", "").split())


def test_documents_are_not_in_the_corpus(corpus: Path) -> None:
    manifest = load_manifest(corpus)
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer" / "tokenizer.json"))
    trained = {
        domain: squeezed(
            "".join(
                tokenizer.decode(part.tolist()) for part in open_domain(corpus, manifest, domain)
            )
        )
        for domain in ("code", "facts", "prose")
    }
    for domain, texts in held_out_documents(corpus).items():
        assert len(set(texts)) == 64
        for text in texts:
            start = squeezed(text)[:200]
            assert start and len(text) <= 1500
            for other in ("code", "prose") if domain in ("code", "prose") else ("facts",):
                assert start not in trained[other], (domain, other, text[:80])


def test_they_are_tasks(corpus: Path, tmp_path: Path) -> None:
    names = write_held_out_tasks(corpus, tmp_path, ("arithmetic", "code"))
    assert names == ("held_out_arithmetic", "held_out_code")
    task = load_task("held_out_code", task_paths=[tmp_path])
    assert len(task.documents) == 64 and task.primary_metric == "bits_per_byte"
    assert not any(doc["text"].startswith(('"""', "#")) for doc in task.documents)


def test_a_domain_that_is_used_up(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython's prose ends; here three documents after the last one trained on."""
    docs = sum(shard.docs for shard in load_manifest(corpus).shards("prose"))
    streams = held_out.document_streams()
    prose = iter([f"nothing like document {k}" for k in range(docs + 3)])
    monkeypatch.setattr(held_out, "document_streams", lambda: {**streams, "prose": prose})
    with pytest.raises(UserError, match="3 documents are left, 64 are needed"):
        held_out_documents(corpus, ("prose",))
