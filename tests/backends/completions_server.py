"""A completions server over HTTP that runs a tiny model, and misbehaves when told to.

It computes with transformers' plain forward pass, one prompt at a time, so that its numbers share
nothing with the code under test.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

KNOWN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "logprobs",
    "echo",
}  # fmt: skip
# What a fault returns: an HTTP status, a status with headers, or the name of another misfortune.
Fault = Callable[[int, dict[str, Any]], Any]


@dataclass
class Serving:
    """What the server offers and does. ``fault`` is asked before every completion.

    ``strict``: fields beyond OpenAI's are refused, else those not in ``offers`` are ignored.
    ``count_offset`` is added to the prompt tokens it counts; ``bos``: text prompts get a BOS;
    ``shift``: log-probabilities of prompts are off by one token.
    """

    folder: Path
    offers: frozenset[str] = frozenset({"prompt_logprobs", "echo", "logprob_token_ids"})
    ids: bool = True
    bos: bool = False
    strict: bool = False
    models: tuple[dict[str, Any], ...] = ()
    stops: int | None = None
    several: bool = True
    logprobs: bool = True
    smallest_echo: int = 0
    count_offset: int = 0
    shift: int = 0
    key: str | None = None
    fault: Fault | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    together: int = 0


class Refused(Exception):
    """Answered with HTTP 400."""


class Completer:
    """The model behind the server."""

    def __init__(self, serving: Serving):
        self.serving = serving
        self.tokenizer = AutoTokenizer.from_pretrained(serving.folder)
        self.model = AutoModelForCausalLM.from_pretrained(
            serving.folder, dtype=torch.float32
        ).eval()
        self.lock = threading.Lock()

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities of the token after each of ``ids`` [len(ids), vocabulary]."""
        with torch.inference_mode():
            return self.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        s = self.serving
        if s.strict and (unknown := body.keys() - KNOWN - s.offers):
            raise Refused(f"unknown field {min(unknown)}")
        if s.stops and len(body.get("stop") or ()) > s.stops:
            raise Refused(f"at most {s.stops} stops")
        prompt = body["prompt"]
        if isinstance(prompt, str):
            ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            ids = [self.tokenizer.eos_token_id] * s.bos + ids
        elif s.ids:
            ids = prompt
        else:
            raise Refused("prompt must be a string")
        if len(ids) + max(body["max_tokens"], 1) > self.model.config.max_position_embeddings:
            raise Refused(f"the context of {len(ids)} tokens is too long")
        echo = body.get("echo") and "echo" in s.offers
        if echo and body["max_tokens"] < s.smallest_echo:
            raise Refused("max_tokens is too small")
        n = body.get("n", 1) if s.several else 1
        if n > 1 and body["temperature"] == 0:
            raise Refused("n must be 1 when sampling is greedy")
        with self.lock:
            prompt_rows = self.logprobs(ids)
            samples = [self.sample(ids, body, k) for k in range(n)]
        choices = []
        for tokens, rows, text, finish in samples:
            choice: dict[str, Any] = {"text": text, "finish_reason": finish, "logprobs": None}
            if body.get("prompt_logprobs") is not None and "prompt_logprobs" in s.offers:
                choice["prompt_logprobs"] = self.prompt_logprobs(
                    ids, prompt_rows, body["prompt_logprobs"]
                )
            if body.get("logprobs") is not None and s.logprobs:
                asked = body.get("logprob_token_ids") or []
                by_id = "logprob_token_ids" in s.offers and body.get("return_tokens_as_token_ids")
                listed, list_rows = tokens, rows
                if echo:
                    listed = ids + tokens
                    list_rows = [None, *prompt_rows[:-1], *rows]
                if s.shift and echo:
                    list_rows = [None, *list_rows[1 + s.shift :], *list_rows[-s.shift :]]
                choice["logprobs"] = self.listed(
                    listed, list_rows, bool(by_id), asked if by_id else None
                )
            choices.append(choice)
        return {
            "choices": choices,
            "usage": {
                "prompt_tokens": len(ids) + s.count_offset,
                "completion_tokens": sum(len(tokens) for tokens, *_ in samples),
            },
        }

    def prompt_logprobs(self, ids: list[int], rows: torch.Tensor, top: int) -> list[Any]:
        out: list[Any] = [None]
        for token, row in zip(ids[1:], rows[:-1].roll(-self.serving.shift, 0), strict=True):
            entry = {}
            for t in [token, *row.topk(top).indices.tolist()]:
                rank = int((row >= row[t]).sum())
                entry[str(t)] = {"logprob": float(row[t]), "rank": rank, "decoded_token": "?"}
            out.append(entry)
        return out

    def listed(self, tokens, rows, by_id: bool, asked: list[int] | None) -> dict[str, Any]:
        def name(token: int) -> str:
            return f"token_id:{token}" if by_id else self.tokenizer.decode([token])

        top: list[Any] = []
        for token, row in zip(tokens, rows, strict=True):
            if row is None:
                top.append(None)
                continue
            others = row.topk(1).indices.tolist() if asked is None else asked
            top.append({name(t): float(row[t]) for t in [token, *others]})
        return {
            "tokens": [name(t) for t in tokens],
            "token_logprobs": [
                None if row is None else float(row[t]) for t, row in zip(tokens, rows, strict=True)
            ],
            "top_logprobs": top,
        }

    def sample(
        self, ids: list[int], body: dict[str, Any], number: int
    ) -> tuple[list[int], list[torch.Tensor], str, str]:
        generator = torch.Generator().manual_seed(body.get("seed", 0) + number)
        tokens: list[int] = []
        rows: list[torch.Tensor] = []
        while len(tokens) < body["max_tokens"]:
            row = self.logprobs(ids + tokens)[-1]
            if body["temperature"] == 0:
                token = int(row.argmax())
            else:
                p = (row / body["temperature"]).softmax(-1)
                token = int(torch.multinomial(p, 1, generator=generator))
            tokens.append(token)
            rows.append(row)
            if token == self.tokenizer.eos_token_id:
                return tokens, rows, self.tokenizer.decode(tokens[:-1]), "stop"
            text = self.tokenizer.decode(tokens)
            cuts = [text.find(s) for s in body.get("stop") or () if s in text]
            if cuts:
                return tokens, rows, text[: min(cuts)], "stop"
        return tokens, rows, self.tokenizer.decode(tokens) if tokens else "", "length"


@contextmanager
def serve(serving: Serving) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """Yields the base URL, and the server itself, which a test may shut down."""
    completer = Completer(serving)
    state = {"now": 0}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def reply(self, status: int, value: Any, **headers: str) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refused_key(self) -> bool:
            if serving.key is None or self.headers["Authorization"] == f"Bearer {serving.key}":
                return False
            given = self.headers["Authorization"]
            self.reply(401, {"error": {"message": f"bad key in '{given}'"}})
            return True

        def do_GET(self) -> None:
            if self.path != "/v1/models":
                self.reply(404, {"detail": "Not Found"})
            elif not self.refused_key():
                models = serving.models or (
                    {"id": "tiny", "root": str(serving.folder), "max_model_len": 2048},
                )
                self.reply(200, {"object": "list", "data": list(models)})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.refused_key():
                return
            with lock:
                number = len(serving.asked)
                serving.asked.append(body)
                state["now"] += 1
                serving.together = max(serving.together, state["now"])
            try:
                self.answer(body, serving.fault and serving.fault(number, body))
            finally:
                with lock:
                    state["now"] -= 1

        def answer(self, body: dict[str, Any], fault: Any) -> None:
            if isinstance(fault, int):
                self.reply(fault, {"error": {"message": "told to fail"}})
            elif isinstance(fault, tuple):
                self.reply(fault[0], {"error": {"message": "told to fail"}}, **fault[1])
            elif fault == "garbage":
                self.reply(200, b'{"choices": [{"te')
            elif fault == "empty":
                self.reply(200, {})
            elif fault == "reset":
                self.connection.close()
                self.close_connection = True
            elif callable(fault):
                fault()
                self.close_connection = True
            else:
                try:
                    answer = completer.complete(body)
                except Refused as error:
                    self.reply(400, {"error": {"message": str(error)}})
                    return
                if fault == "count":
                    answer["usage"]["prompt_tokens"] += 1
                if fault == "silent":
                    answer["choices"][0]["prompt_logprobs"] = None
                self.reply(200, answer)

    class QuietServer(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
