"""The demo corpus: distinct domains that every machine can make, tokenized into shards.

It exists so that training, mixing and evaluating can be tried end to end without a download. Six
domains differ enough that mixtures of them matter: ``code`` and ``prose`` (what CPython ships),
``arithmetic``, ``patterns`` and ``facts`` (generated), and ``noise`` (shuffled words), which a good
mixture must learn to avoid. Everything is seeded: the same Python and ``tokenizers`` versions give
the same bytes.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from olmeval.errors import UserError
from olmeval.files import (
    atomic_dir,
    cache_dir,
    locked,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
)
from olmeval.trainer import (
    corpus_arithmetic,
    corpus_facts,
    corpus_found,
    corpus_patterns,
    shards,
)
from olmeval.trainer.shard_writer import write_domain
from olmeval.trainer.shards import Manifest, Shard, TokenizerInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EOS = "<|endoftext|>"
EOS_ID = 0  # the trainer numbers special tokens first
SETTINGS = "corpus.json"
DOMAINS = ("arithmetic", "code", "facts", "noise", "patterns", "prose")
VOCAB_SIZE = 4096
# Text of each domain that the tokenizer is trained on; more changes the vocabulary little.
TRAINING_BYTES = 1_000_000
BATCH = 32


def build_demo_corpus(
    output: Path | None = None, tokens_per_domain: int = 2_000_000, progress: bool = True
) -> Path:
    """Builds the demo corpus in ``output`` (default: the cache) and returns the folder.

    Every domain holds about ``tokens_per_domain`` tokens, or all there is: CPython's prose is
    smaller than the default. Does nothing when the folder already holds the same corpus; replaces
    an older one; refuses a folder that holds something else (:class:`UserError`).
    """
    if tokens_per_domain < 10_000:
        raise UserError(
            f"a corpus of {tokens_per_domain} tokens per domain is too small to train a tokenizer "
            "on; ask for at least 10000"
        )
    output = output or cache_dir() / "demo-corpus"
    settings = _settings(tokens_per_domain)
    if _is_built(output, settings):
        return output
    with _progress(progress) as step, locked(output.with_name(f".{output.name}.lock")):
        if not _is_built(output, settings):  # nor by a process that this one waited for
            with atomic_dir(output.resolve()) as tmp:  # it may be a link to a folder elsewhere
                _build(tmp, tokens_per_domain, step)
                write_json(tmp / SETTINGS, settings)
    return output


def _build(root: Path, tokens_per_domain: int, step: Callable[[str], None]) -> None:
    step("reading")
    sources = document_streams()
    step("tokenizer")
    tokenizer, sources = _train_tokenizer(sources, min(TRAINING_BYTES, 4 * tokens_per_domain))
    info = _save_tokenizer(tokenizer, root)
    written = {}
    for domain in DOMAINS:
        step(domain)
        written[domain] = _write(root, domain, sources[domain], tokenizer, tokens_per_domain)
    manifest = Manifest(
        tokenizer=info, vocab_size=tokenizer.get_vocab_size(), eos_id=EOS_ID, domains=written
    )
    shards.write_manifest(root, manifest)


def _settings(tokens_per_domain: int) -> dict[str, Any]:
    """What decides the bytes of the corpus, the generators' own source included."""
    import tokenizers

    here = Path(__file__)
    sources = [here, *sorted(here.parent.glob("corpus_*.py"))]
    return {
        "kind": "demo-corpus",
        "tokens_per_domain": tokens_per_domain,
        "python": platform.python_version(),
        "tokenizers": tokenizers.__version__,
        "generators": sha256_json({path.name: sha256_file(path) for path in sources}),
    }


def _is_built(output: Path, settings: dict[str, Any]) -> bool:
    """Whether ``output`` is this corpus and whole; refuses a folder of something else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    if not (output / SETTINGS).is_file():
        raise UserError(
            f"'{output}' holds something that is not a demo corpus; choose another --output"
        )
    if read_json(output / SETTINGS) != settings:
        return False
    try:
        shards.load_manifest(output)
    except UserError:
        return False
    return True


def document_streams() -> dict[str, Iterator[str]]:
    """The documents of every domain, in order; generated ones never end."""
    prose = corpus_found.prose()
    return {
        "arithmetic": corpus_arithmetic.arithmetic(),
        "code": iter(corpus_found.code()),
        "facts": corpus_facts.facts(),
        "noise": corpus_found.noise(prose),
        "patterns": corpus_patterns.patterns(corpus_found.words(prose, 3000)),
        "prose": iter(prose),
    }


def _train_tokenizer(
    sources: dict[str, Iterator[str]], size: int
) -> tuple["Tokenizer", dict[str, Iterator[str]]]:
    """A byte-level BPE trained on the first ``size`` characters of each domain.

    Returns the sources rewound to their start, too. Digits are single tokens, as place value asks.
    """
    from itertools import chain

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    samples = {domain: _first(source, size) for domain, source in sources.items()}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain.from_iterable(samples.values()), trainer)
    # The text of a document must not be able to produce the end-of-document token.
    tokenizer.encode_special_tokens = True
    return tokenizer, {domain: chain(samples[domain], sources[domain]) for domain in sources}


def _first(documents: Iterator[str], size: int) -> list[str]:
    """The first documents, together at least ``size`` characters if there are so many."""
    taken, total = [], 0
    for document in documents:
        taken.append(document)
        total += len(document)
        if total >= size:
            break
    return taken


def _save_tokenizer(tokenizer: "Tokenizer", root: Path) -> TokenizerInfo:
    """Saves the tokenizer so that transformers' ``AutoTokenizer`` loads it."""
    folder = root / "tokenizer"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    write_json(folder / "tokenizer_config.json", config)
    digest = sha256_file(folder / "tokenizer.json")
    return TokenizerInfo(id=f"demo-bpe-{VOCAB_SIZE}", sha256=digest, path="tokenizer")


def _write(
    root: Path, domain: str, documents: Iterable[str], tokenizer: "Tokenizer", target: int
) -> tuple[Shard, ...]:
    """Tokenizes documents until ``target`` tokens are reached, and writes them."""
    ids: list[npt.NDArray[np.uint16]] = []
    sizes: list[int] = []
    tokens = 0
    stream = iter(documents)
    while tokens < target and (batch := list(islice(stream, BATCH))):
        for text, encoding in zip(batch, tokenizer.encode_batch_fast(batch), strict=True):
            ids.append(np.array(encoding.ids, dtype=np.uint16))
            sizes.append(len(text.encode()))
            tokens += len(encoding.ids) + 1
            if tokens >= target:
                break
    return write_domain(
        root,
        domain,
        ids,
        vocab_size=tokenizer.get_vocab_size(),
        eos_id=EOS_ID,
        doc_bytes=sizes,
    )


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[str], None]]:
    """A bar over the stages of a build; yields what names the stage that begins."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("demo corpus", total=2 + len(DOMAINS), completed=-1)

        def step(name: str) -> None:
            bar.update(task, description=f"demo corpus: {name}", advance=1)

        yield step
