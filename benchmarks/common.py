"""What the benchmarks share: a tiny random checkpoint with a real tokenizer, and the machine."""

import os
import platform
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from olmeval.tasks.pull import require_pulled

TOKENIZER = "allenai_gpt-neox-olmo-dolma-v1_5.json"


def tiny_checkpoint(folder: Path) -> Path:
    """A random 4-layer OLMo-2 of width 64 with the OLMo tokenizer (50,280 ids)."""
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    file = require_pulled() / "tokenizers" / TOKENIZER
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>")
    config = Olmo2Config(
        vocab_size=50304, hidden_size=64, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=2, max_position_embeddings=2048, pad_token_id=None,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, initializer_range=0.1,
    )  # fmt: skip
    Olmo2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def machine() -> str:
    """Processor and versions, for the head of a report."""
    import torch
    import transformers

    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s); "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
