"""The server backend against a real HTTP server that computes on its own: scores and texts."""

import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions, Prompt
from olmeval.errors import UserError
from olmeval.requests import Sampling
from tests.backends.completions_server import Serving
from tests.backends.server_parts import WINDOW, backend_of, plan_of, prompts, requests, scores
from tests.conftest import make_checkpoint

pytestmark = pytest.mark.usefixtures("quick_server")

WAYS = {
    "prompt_logprobs, one-token groups": {},
    "prompt_logprobs": {"offers": frozenset({"prompt_logprobs"})},
    "echo": {"offers": frozenset({"echo"}), "strict": True},
    "echo that generates": {"offers": frozenset({"echo"}), "smallest_echo": 1},
    "text": {"offers": frozenset({"prompt_logprobs"}), "ids": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_scores_equal_the_straight_line(checkpoint: Path, want: list, way: str) -> None:
    serving = Serving(checkpoint, **WAYS[way])
    with backend_of(serving) as backend:
        assert backend.info.settings["scoring"] == ("echo" if "echo" in way else "prompt_logprobs")
        assert backend.info.settings["one_token_groups"] == ("one-token" in way)
        assert backend.info.settings["prompts"] == ("text" if way == "text" else "ids")
        assert backend.info.max_length == WINDOW
        items = requests()
        plan = plan_of(backend, items)
        probes = len(serving.asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if way == "text" else "error")
            logprob, greedy = scores(backend, plan)
        of = plan.unique_of
        known = np.isfinite(logprob[of])
        # Cut from the left, a prompt may begin inside a character or word: no text stands for it.
        assert known.sum() >= len(items) - (way == "text")
        expected = np.array([w[0] for w in want])
        assert np.abs(logprob[of] - expected)[known].max() < 1e-4
        assert greedy[of][known].tolist() == np.array([w[1] for w in want])[known].tolist()
        s = plan.sequences
        contexts = [
            s.ids[s.offsets[k] : s.offsets[k + 1] - 1].tobytes()
            for k in np.flatnonzero(s.lengths == s.context_len + 1)
        ]
        # One-token ends of one context are one request.
        saved = len(contexts) - len(set(contexts)) if "one-token" in way else 0
        assert saved >= 5 or "one-token" not in way
        assert len(serving.asked) - probes == len(s) - saved - (~known).sum()


def test_requests_that_share_a_beginning_are_neighbours(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, concurrency=1) as backend:
        plan = plan_of(backend, requests())
        probes = len(serving.asked)
        scores(backend, plan)
        asked = [a["prompt"] for a in serving.asked[probes:]]
        firsts = [tuple(p[:40]) for p in asked]
        changes = sum(a != b for a, b in pairwise(firsts))
        assert changes == len(set(firsts)) - 1


def test_text_that_stands_for_other_tokens_is_not_scored(checkpoint: Path) -> None:
    serving = Serving(checkpoint, ids=False)
    with backend_of(serving) as backend:
        probes = len(serving.asked)
        # The second half of a two-byte letter is no text.
        half = backend.tokenizer.encode(["é"])[0][-1:]
        if backend.tokenizer.encode([backend.tokenizer.decode(half)])[0] == half:
            half = [backend.tokenizer.hf.convert_tokens_to_ids("©")]
        prompt = Prompt((*half, 300), Sampling(max_tokens=2), 1)
        with pytest.warns(UserWarning, match="no text stands for these tokens"):
            assert list(backend.generate([prompt])) == [(0, ())]
        assert len(serving.asked) == probes


def test_what_a_strict_server_refuses_is_not_sent_again(checkpoint: Path) -> None:
    with backend_of(Serving(checkpoint)) as backend:
        assert "top_k" in backend.info.settings["neutral_sampling"]
    serving = Serving(checkpoint, strict=True, offers=frozenset({"echo", "min_p"}))
    with backend_of(serving) as backend:
        assert backend.info.settings["neutral_sampling"] == ["min_p"]
        probes = len(serving.asked)
        list(backend.generate([Prompt((5, 6, 7), Sampling(max_tokens=2), 1)]))
        assert serving.asked[probes].keys() <= {
            "model", "prompt", "max_tokens", "temperature", "top_p", "min_p", "seed", "logprobs"
        }  # fmt: skip


def test_a_server_that_contradicts_itself_is_refused(checkpoint: Path) -> None:
    for offer in ("echo", "prompt_logprobs"):
        serving = Serving(checkpoint, shift=1, offers=frozenset({offer}))
        with pytest.raises(UserError, match=f"contradicts itself.*by {offer}"), backend_of(serving):
            pass


def test_a_server_that_sees_other_tokens_is_refused(
    checkpoint: Path, tmp_path: Path, tokenizer_dir: Path
) -> None:
    with (
        pytest.raises(UserError, match="counts 61 tokens where the tokenizer makes 60"),
        backend_of(Serving(checkpoint, count_offset=1, ids=False)),
    ):
        pass
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({c: k for k, c in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="a").save_pretrained(tmp_path)
    with (
        pytest.raises(UserError, match=r"counts \d+ tokens where .* pass the tokenizer of 'tiny'"),
        backend_of(Serving(checkpoint), LoadOptions(tokenizer=str(tmp_path))),
    ):
        pass


def test_a_bos_that_a_server_adds_to_text_is_told_apart(checkpoint: Path, tmp_path: Path) -> None:
    # It takes ids, to which it adds none: fine.
    folder = make_checkpoint(tmp_path / "bos", checkpoint)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    from tokenizers.processors import TemplateProcessing

    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    backend.save(str(folder / "tokenizer.json"))
    with backend_of(Serving(folder, bos=True)) as loaded:
        assert loaded.info.settings["prompts"] == "ids"
    with (
        pytest.raises(UserError, match="adds tokens of its own"),
        backend_of(Serving(folder, bos=True, ids=False)),
    ):
        pass


def test_a_server_without_scoring_still_generates(checkpoint: Path) -> None:
    with backend_of(Serving(checkpoint, offers=frozenset())) as backend:
        assert backend.info.settings["scoring"] is None
        assert backend.info.max_length == 2048
        plan = plan_of(backend, requests()[:4])
        with pytest.raises(UserError, match="can only generate"):
            list(backend.score(plan, plan.steps))
        assert list(backend.score(plan, [])) == []
        ((_, (sample,)),) = backend.generate([Prompt((5, 6), Sampling(max_tokens=3), 1)])
        assert sample.n_tokens <= 3 and sample.finish in ("stop", "length")


def test_greedy_generation_equals_transformers(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with backend_of(Serving(checkpoint)) as backend:
        items = prompts(backend, Sampling(max_tokens=24))
        got = dict(backend.generate(items))
        for k, prompt in enumerate(items):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ids = model.generate(
                    torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False
                )[0, len(prompt.ids) :].tolist()
            (sample,) = got[k]
            assert sample.text == backend.tokenizer.decode([i for i in ids if i != 0])
            assert sample.n_tokens == len(ids)
            whole = torch.tensor([[*prompt.ids, *ids]])
            with torch.no_grad():
                rows = model(whole).logits[0].double().log_softmax(-1)[len(prompt.ids) - 1 : -1]
            total = float(rows.gather(1, torch.tensor(ids)[:, None]).sum())
            assert sample.logprob == pytest.approx(total, abs=1e-4)


def test_stops_beyond_a_servers_limit_cut_the_text(checkpoint: Path) -> None:
    for most in (None, 4):
        serving = Serving(checkpoint, stops=most)
        with backend_of(serving) as backend:
            (free,) = dict(backend.generate(prompts(backend, Sampling(max_tokens=40), 1)))[0]
            middle = len(free.text) // 2
            stop = ("\x00a", "\x00b", "\x00c", "\x00d", free.text[middle : middle + 3])
            items = prompts(backend, Sampling(max_tokens=40, stop=stop), 1)
            (cut,) = dict(backend.generate(items))[0]
            assert cut.text == free.text[: free.text.find(stop[-1])]
            assert cut.finish == "stop"
            assert len(serving.asked[-1]["stop"]) == (most or 5)
            assert cut.n_tokens == free.n_tokens or most is None


@pytest.mark.parametrize("several", [True, False])
def test_samples_are_seeded_by_the_request(checkpoint: Path, several: bool) -> None:
    serving = Serving(checkpoint, several=several)
    with backend_of(serving) as backend:
        items = prompts(backend, Sampling(max_tokens=12, temperature=1.0, top_p=0.9, n=3))
        together = dict(backend.generate(items))
        texts = {s.text for samples in together.values() for s in samples}
        assert len(texts) > len(items)
        probes = len(serving.asked)
        alone = dict(backend.generate([items[4]]))[0]
        assert alone == together[4]
        assert len(serving.asked) - probes == (1 if several else 3)
        assert serving.asked[-1]["top_p"] == 0.9 and serving.asked[-1]["temperature"] == 1.0
        assert serving.asked[probes]["seed"] == items[4].seed % 2**31
        greedy = dict(backend.generate(prompts(backend, Sampling(max_tokens=4, n=3), 1)))[0]
        assert len(greedy) == 3 and len(set(greedy)) == 1


def test_the_two_ways_to_draw_several_samples_agree(checkpoint: Path) -> None:
    drawn = []
    for several in (True, False):
        with backend_of(Serving(checkpoint, several=several)) as backend:
            items = prompts(backend, Sampling(max_tokens=4, temperature=1.0, n=18), 3)
            drawn.append([[s.text for s in v] for _, v in sorted(backend.generate(items))])
    assert drawn[0] == drawn[1]
