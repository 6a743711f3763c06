"""The measurements of gpu_check.py: one function a step, which yields figures.

Data are random tokens and weights are random: speed and equality do not depend on them.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from olmeval.config import parse_config
from olmeval.executors.local import LocalPool
from olmeval.files import sha256_file, write_json
from olmeval.trainer.loop import train
from olmeval.trainer.model import ModelConfig, Olmo2, build_model
from olmeval.trainer.presets import preset
from olmeval.trainer.recipe import Recipe, resolve
from olmeval.trainer.shard_writer import write_domain
from olmeval.trainer.shards import Manifest, TokenizerInfo, write_manifest
from olmeval.trainer.swarm import Job, make_job, run_swarm, train_proxy

PRODUCT = "matrix products"
EOS = 0


@dataclass(frozen=True)
class Setting:
    """``folder``: where steps put files. ``product``: TFLOP/s of the card, once measured."""

    device: str
    tiny: bool
    folder: Path
    product: float | None = None


@dataclass(frozen=True)
class Figure:
    """A row of the report. ``verdict``: held, MISSED, failed, or nothing where there is no goal."""

    step: str
    name: str
    value: float | None
    unit: str
    goal: float | None = None
    verdict: str = ""
    note: str = ""


def at_least(
    step: str, name: str, value: float, unit: str, goal: float | None, note: str
) -> Figure:
    """A speed, held if it reaches the goal."""
    verdict = "" if goal is None else "held" if value >= goal else "MISSED"
    return Figure(step, name, value, unit, goal, verdict, note)


def at_most(step: str, name: str, value: float, goal: float, note: str = "") -> Figure:
    """A difference, held if it stays within the goal."""
    return Figure(step, name, value, "", goal, "held" if value <= goal else "MISSED", note)


def card(setting: Setting) -> Iterator[Figure]:
    """The device: its name, and what it can do at best."""
    from olmeval.trainer.preflight import memory_rate, product_rate, wrong_products

    device, seconds = torch.device(setting.device), 0.2 if setting.tiny else 3.0
    name = "processor, float32"
    if setting.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        memory = about.total_memory / 2**30
        name = f"{about.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, bfloat16"
    yield Figure("card", PRODUCT, product_rate(device, seconds), "TFLOP/s", note=name)
    yield Figure("card", "memory, read and written", memory_rate(device, seconds), "GB/s")
    yield at_most("card", "wrong matrix products", wrong_products(device), 0)


def parity(setting: Setting) -> Iterator[Figure]:
    """Logits beside transformers' in float32, with grouped heads and windows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.backends.cuda.matmul.allow_tf32 = False
    for name, window in (("OLMo-2", None), ("OLMo-3", 100)):
        config = ModelConfig(
            vocab_size=1000, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
            num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=512,
            rope_theta=10_000.0, sliding_window=window,
        )  # fmt: skip
        ours = build_model(config, 0, setting.device)
        about = config.hf_config(eos_id=EOS)
        theirs = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**about), attn_implementation="eager"
        )
        theirs.load_state_dict({k: v.cpu() for k, v in ours.state_dict().items()})
        theirs = theirs.to(setting.device).eval()
        tokens = torch.randint(0, 1000, (2, 400), generator=torch.Generator().manual_seed(0))
        tokens = tokens.to(setting.device)
        with torch.no_grad():
            got, want = ours(tokens), theirs(input_ids=tokens).logits
        difference = ((got - want).abs().max() / want.std()).item()
        yield at_most(
            "parity", f"{name}, logits beside transformers", difference, 1e-4,
            "largest difference over their standard deviation, float32",
        )  # fmt: skip


def attention(setting: Setting) -> Iterator[Figure]:
    """Kernels in bfloat16 beside dense masks in float32 on the processor, with gradients."""
    from olmeval.trainer.attention import attention as attend
    from olmeval.trainer.attention import pack_documents

    length = 128 if setting.tiny else 1024
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 100, (2, length + 1), generator=generator).numpy()
    window = length // 4
    cases = {"causal": (None, False), "window": (window, False), "documents": (None, True),
             "window and documents": (window, True)}  # fmt: skip
    shapes = [(2, length, heads, 64) for heads in (8, 2, 2, 8)]
    drawn = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    for name, (size, apart) in cases.items():
        results = []
        for device, dtype in (("cpu", torch.float32), (setting.device, torch.bfloat16)):
            q, k, v, up = (x.to(device, dtype, copy=True) for x in drawn)
            for x in (q, k, v):
                x.requires_grad_()
            documents = pack_documents(tokens, EOS, torch.device(device)) if apart else None
            y = attend(q, k, v, size, documents)
            y.backward(up)
            results.append([x.float().cpu() for x in (y.detach(), q.grad, k.grad, v.grad)])
        worst = max(
            ((got - want).norm() / want.norm()).item()
            for want, got in zip(*results, strict=True)
        )  # fmt: skip
        yield at_most(
            "attention", f"attention, {name}", worst, 0.02,
            "outputs and gradients, bfloat16 beside float32, relative",
        )  # fmt: skip


class Stop(Exception):
    """Ends a run from outside."""


def resume(setting: Setting) -> Iterator[Figure]:
    """A run that was stopped ends with the weights of one that was not."""
    compiled: tuple[str | None, ...] = (None,) if setting.tiny else (None, "whole")
    for how in compiled:
        recipe = make_recipe(setting, "resume", 24, compiled=how, checkpoint=8)
        hashes = []
        for name in ("whole", "stopped"):
            output = setting.folder / f"resume-{how}-{name}"
            if name == "stopped":
                with suppress(Stop):
                    train(recipe, output, on_checkpoint=stop, progress=False)
                assert not (output / "step24").exists()
            train(recipe, output, progress=False)
            hashes.append(sha256_file(output / "step24/model.safetensors"))
        yield Figure(
            "resume", f"resumed run, {'compiled' if how else 'eager'}: weights bit-identical",
            float(hashes[0] == hashes[1]), "", 1.0, "held" if hashes[0] == hashes[1] else "MISSED",
        )  # fmt: skip


def stop(_: Path) -> None:
    """Called at a checkpoint."""
    raise Stop


@dataclass(frozen=True)
class Size:
    """How a model is trained here: sequences of so many tokens, rows a step and at once, steps.

    ``goal``: tokens a second of the trainer on an H100. ``vocab``: of the data.
    """

    model: dict[str, Any]
    seq_len: int
    batch: int
    micro: int | None
    steps: int
    goal: float | None = None
    vocab: int = 100_278


TINY = Size(
    {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    seq_len=32, batch=4, micro=2, steps=20, vocab=500,
)  # fmt: skip
SIZES = {
    "resume": Size({"preset": "14m"}, 2048, 16, 8, 24),
    "train-30m": Size({"preset": "30m"}, 2048, 64, None, 120, 1_300_000),
    "train-190m": Size({"preset": "190m"}, 4096, 32, 16, 40, 250_000),
    "train-1b": Size({"preset": "1b"}, 4096, 16, 4, 20, 54_000),
    "1m": Size({"preset": "cpu-0.7m"}, 256, 64, None, 600, vocab=8192),
    "14m": Size({"preset": "14m"}, 2048, 40, None, 180),
    "30m": Size({"preset": "30m"}, 2048, 64, None, 110),
}


def size_of(setting: Setting, name: str) -> Size:
    """The sizes called ``name``, or the tiny ones."""
    return TINY if setting.tiny else SIZES[name]


def make_recipe(
    setting: Setting,
    size_name: str,
    steps: int,
    *,
    compiled: str | None = None,
    checkpoint: int = 10**9,
    **changes: Any,
) -> Recipe:
    """A recipe of so many steps of a size, on random tokens."""
    size = size_of(setting, size_name)
    tokens = steps * size.batch * size.seq_len
    return parse_config(
        "optimizer: {lr: 1e-3}", Recipe, "gpu_check",
        {
            "name": size_name, "model": size.model, "data.max_epochs": 1e6, "data.verify": "size",
            "data.root": str(corpus(setting, size.vocab)),
            "train.tokens": tokens, "train.seq_len": size.seq_len, "train.batch_size": size.batch,
            "train.micro_batch_size": size.micro, "train.compile": compiled,
            "train.precision": "float32" if setting.tiny else "bfloat16",
            "train.device": setting.device, "checkpoint.every": checkpoint, "log_every": 5,
            **changes,
        },
    )  # fmt: skip


def corpus(setting: Setting, vocab: int) -> Path:
    """Two domains of random tokens, with a tokenizer of numbers."""
    root = setting.folder / f"corpus-{vocab}"
    if (root / "manifest.json").exists():
        return root
    write_tokenizer(root / "tokenizer", vocab)
    rng, domains = np.random.default_rng(0), {}
    for name in ("one", "two"):
        count, length = (40, 500) if setting.tiny else (4000, 1000)
        documents = list(rng.integers(1, vocab, size=(count, length)))
        domains[name] = write_domain(root, name, documents, vocab_size=vocab, eos_id=EOS)
    file = root / "tokenizer/tokenizer.json"
    info = TokenizerInfo(id="numbers", sha256=sha256_file(file), path="tokenizer")
    write_manifest(root, Manifest(tokenizer=info, vocab_size=vocab, eos_id=EOS, domains=domains))
    return root


def write_tokenizer(folder: Path, vocab: int) -> None:
    """A tokenizer whose tokens are the words w0, w1, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"w{k}": k for k in range(vocab)}, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w0"}
    write_json(folder / "tokenizer_config.json", about)


def speed_of(name: str) -> Callable[[Setting], Iterator[Figure]]:
    """The step that trains one size."""

    def measure(setting: Setting) -> Iterator[Figure]:
        """Tokens a second of the training loop, data included; and the share of the card's best."""
        size = size_of(setting, name)
        compiled = None if setting.tiny else "whole"
        recipe = make_recipe(setting, name, size.steps, compiled=compiled)
        output = setting.folder / name
        profiler, profiled = torch.profiler.profile(), size.steps - recipe.log_every

        def on_line(step: int) -> None:
            if step == profiled:
                profiler.start()
            elif step == size.steps:
                profiler.stop()
                # Before the last checkpoint, which takes 20 GB of disk at 1B parameters.
                raise Stop

        with suppress(Stop):
            train(recipe, output, on_line=on_line, progress=False)
        save_profile(setting, name, profiler)
        rows = [json.loads(line) for line in lines(output / "metrics.jsonl")]
        rates = [row["tokens_per_second"] for row in rows if row["step"] <= profiled]
        rate = statistics.median(rates[len(rates) // 2 :])
        plan = resolve(recipe)
        tflops = rate * plan.flops(1) / 1e12
        note = f"batches of {size.batch} x {size.seq_len}"
        if setting.device == "cuda":
            note += f", {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB"
        yield at_least(name, f"{name}, T {size.seq_len}", rate, "tokens/s", size.goal, note)
        share = f", {tflops / setting.product:.0%} of the products' rate" if setting.product else ""
        yield Figure(name, f"{name}, model FLOPs", tflops, "TFLOP/s", note=f"6N + 12LdT{share}")

    return measure


def save_profile(setting: Setting, name: str, profiler: torch.profiler.profile) -> None:
    """Writes where the time of the last steps went to $OUT, if there is one."""
    if out := os.environ.get("OUT"):
        key = f"self_{setting.device}_time_total"
        table = profiler.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=90)
        Path(out, f"profile-{name}.txt").write_text(table, encoding="utf-8")


def lines(path: Path) -> list[str]:
    """The lines of a text file."""
    return path.read_text(encoding="utf-8").splitlines()


def swarm_with(workers: int) -> Callable[[Setting], Iterator[Figure]]:
    """The step that trains proxies on so many workers of one card."""

    def measure(setting: Setting) -> Iterator[Figure]:
        """Tokens a second of all workers together, from proxy to proxy, checkpoints included."""
        step = f"swarm-{workers}-worker{'s'[: workers - 1]}"
        share = 1 / workers if setting.device == "cuda" else 0
        with LocalPool(workers, gpus_per_worker=share, threads=1 if setting.tiny else None) as pool:
            for name in ("1m",) if setting.tiny else ("1m", "14m", "30m"):
                size = size_of(setting, name)
                compiled = None if setting.tiny else "whole"
                folder = setting.folder / f"{step}-{name}"
                # Workers start and compile before the clock does, all of them.
                short = [
                    make_recipe(setting, name, 4, compiled=compiled, name=f"warm{k}")
                    for k in range(workers)
                ]
                warm = [make_job(r, resolve(r), folder / r.name, None) for r in short]
                for done in pool.map(warm_up, [(job, workers) for job in warm], retries=0):
                    if done.error:
                        raise RuntimeError(done.error)
                recipes = [
                    make_recipe(setting, name, size.steps, compiled=compiled, name=f"proxy{k}")
                    for k in range(2)
                ]
                started = time.perf_counter()
                result = run_swarm(recipes, folder, executor=pool, retries=0, progress=False)
                seconds = time.perf_counter() - started
                if result.failed:
                    raise RuntimeError(result.failed[0].error)
                tokens = sum(proxy.tokens for proxy in result.proxies)
                yield Figure(
                    step, f"swarm of {name} proxies, {workers} warm", tokens / seconds, "tokens/s",
                    note=f"{len(recipes)} proxies of {tokens // len(recipes):,} tokens, "
                    f"batches of {size.batch} x {size.seq_len}",
                )  # fmt: skip

    return measure


def warm_up(task: tuple[Job, int], report: Callable[[int], None]) -> None:
    """Trains a short proxy, and keeps the worker until all others have theirs."""
    job, workers = task
    train_proxy(job, report)
    marks = job.folder.parent / "marks"
    marks.mkdir(exist_ok=True)
    (marks / job.recipe.name).touch()
    while len(list(marks.iterdir())) < workers:
        time.sleep(0.01)


def scoring(setting: Setting) -> Iterator[Figure]:
    """Tokens a second of the torch backends: four choices each after contexts of 500 tokens."""
    from olmeval.backends.base import LoadOptions
    from olmeval.backends.checkpoints import find_checkpoints
    from olmeval.backends.planner import make_plan
    from olmeval.engine.load import load_backend
    from olmeval.requests import Request

    model = "cpu-0.7m" if setting.tiny else "1b"
    folder = write_checkpoint(setting, preset(model))
    rng, contexts, words = np.random.default_rng(0), (2, 50) if setting.tiny else (256, 500), 4000
    requests = []
    for _ in range(contexts[0]):
        context = " ".join(f"w{k}" for k in rng.integers(1, words, contexts[1]))
        for _ in range(4):
            choice = "".join(f" w{k}" for k in rng.integers(1, words, 8))
            requests.append(Request("loglikelihood", context, choice))
    logprobs = []
    for name in ("native", "transformers"):
        options = LoadOptions(
            device=setting.device, dtype="float32" if setting.tiny else "bfloat16"
        )
        backend = load_backend(name, find_checkpoints(folder)[0], options)
        rows = backend.tokenizer.pairs(requests, backend.info.max_length)
        plan = make_plan(rows.sequences, backend.max_row_tokens)
        # The first quarter is for kernels to be chosen.
        part = plan.part(0, plan.bounds(4)[1])
        list(backend.score(part, part.steps))
        started = time.perf_counter()
        scored = sorted(backend.score(plan, plan.steps), key=lambda r: r.lo)
        seconds = time.perf_counter() - started
        logprobs.append(np.concatenate([r.logprobs for r in scored]))
        if np.isnan(logprobs[-1]).any():
            raise RuntimeError(f"the {name} backend could not score all requests")
        yield Figure(
            "scoring", f"scoring, {model}, {name}", plan.tokens_planned / seconds, "tokens/s",
            note=f"{len(requests):,} requests, {len(requests) / seconds:,.0f} a second, "
            f"rows of {backend.max_row_tokens}",
        )  # fmt: skip
        backend.close()
    yield at_most(
        "scoring", f"scoring, {model}, native beside transformers",
        float(np.abs(logprobs[0] - logprobs[1]).mean()), 0.05,
        "mean difference of tokens' log-probabilities",
    )  # fmt: skip


def write_checkpoint(setting: Setting, config: ModelConfig) -> Path:
    """A random model in Hugging Face layout."""
    from safetensors.torch import save_file

    folder = setting.folder / "checkpoint"
    write_tokenizer(folder, config.vocab_size)
    with torch.device("meta"):
        model = Olmo2(config)
    model.to_empty(device=setting.device)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data.fill_(1.0)
        else:
            weight.data.normal_(0.0, 0.02)
    weights = {name: w.detach().bfloat16().cpu() for name, w in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config.hf_config(eos_id=EOS, dtype="bfloat16"))
    return folder


STEPS: dict[str, Callable[[Setting], Iterator[Figure]]] = {
    "card": card,
    "parity": parity,
    "attention": attention,
    "resume": resume,
    "train-30m": speed_of("train-30m"),
    "train-190m": speed_of("train-190m"),
    "train-1b": speed_of("train-1b"),
    "swarm-1-worker": swarm_with(1),
    "swarm-2-workers": swarm_with(2),
    "scoring": scoring,
}
