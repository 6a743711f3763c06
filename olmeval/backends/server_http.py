"""Asking an OpenAI-compatible server: many requests at a time, at a set pace, tried again.

A request ends in one of three ways. It is answered. It has failed for good (:class:`RequestFailed`:
the server refused it, or failed at it again and again while it answered another): an error of this
request alone. Or the server is lost (:class:`ServerLost`: it answers nothing, or turns the caller
away): the run ends there, and what was answered stays.

Waits between attempts grow exponentially with full jitter (Brooker 2015, "Exponential Backoff And
Jitter", AWS Architecture Blog), and are never shorter than the server's own Retry-After.
"""

import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Annotated, Any, TypeVar

import httpx2
from pydantic import Field

from olmeval.config import Config, parse_config
from olmeval.errors import UserError

KEY_VARIABLES = ("OLMEVAL_API_KEY", "OPENAI_API_KEY")
CONNECT_SECONDS = 10.0
# The n-th attempt waits up to BACKOFF * 2^n seconds, at most MOST.
BACKOFF_SECONDS, MOST_SECONDS = 1.0, 60.0
TRY_AGAIN = {408, 409, 425, 429}  # and every 5xx
DENIED = {401, 402, 403, 404}

Job = TypeVar("Job")
Result = TypeVar("Result")


class ServerArguments(Config):
    """``--backend-args`` of the server backend.

    ``revision`` names the weights where the model id alone does not; ``timeout`` is in seconds;
    ``requests_per_minute`` 0 is no limit.
    """

    model: str | None = None
    revision: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    timeout: Annotated[float, Field(gt=0)] = 600.0
    retries: Annotated[int, Field(ge=0)] = 6
    requests_per_minute: Annotated[float, Field(ge=0)] = 0.0

    @classmethod
    def parse(cls, extra: dict[str, Any]) -> "ServerArguments":
        """From :attr:`LoadOptions.extra`; an unknown key is a :class:`UserError`."""
        return parse_config("{}", cls, "--backend-args", extra)


class RequestFailed(Exception):
    """One request has no answer and will get none; the server is there."""


class ServerLost(UserError):
    """The server answers nothing any more."""


class _Trouble(Exception):
    """An attempt failed in a way that may pass; ``after`` seconds are to be waited at least."""

    def __init__(self, message: str, after: float = 0.0):
        super().__init__(message)
        self.after = after


class Server:
    """A server at a base URL (``http://host:port/v1``); safe to use from many threads.

    ``answered`` and ``retried`` count completions and repeated attempts. ``canary`` is a request
    that has been answered once: whether it still is tells a lost server from a bad request.
    """

    def __init__(self, url: str, arguments: ServerArguments):
        self.url = checked_url(url)
        self.arguments = arguments
        self.answered = 0
        self.retried = 0
        self.canary: dict[str, Any] | None = None
        self._key = next((os.environ[v] for v in KEY_VARIABLES if os.environ.get(v)), None)
        self._pace = _Pace(arguments.requests_per_minute)
        self._lock = threading.Lock()
        self._canary_lock = threading.Lock()
        self._closed = threading.Event()
        self._lost: ServerLost | None = None
        most = arguments.concurrency
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(arguments.timeout, connect=CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
        )

    def close(self) -> None:
        """Closes the connections; requests that wait to be tried again give up."""
        self._closed.set()
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """The models that the server lists; :class:`UserError` when it does not answer."""
        try:
            listed = self._ask("GET", "models").get("data")
        except (_Trouble, RequestFailed) as error:
            raise UserError(
                f"no completions server answers at '{self.url}' ({error}); start it, or check "
                "host, port and path, which ends in /v1 as a rule"
            ) from None
        if not isinstance(listed, list) or not all(
            isinstance(m, dict) and isinstance(m.get("id"), str) for m in listed
        ):
            raise UserError(
                f"'{self.url}/models' is no list of models; give the base URL of an "
                "OpenAI-compatible server"
            )
        return listed

    def complete(self, body: dict[str, Any], retries: int | None = None) -> dict[str, Any]:
        """The answer to one completion request, after at most ``retries`` more attempts.

        Raises :class:`RequestFailed`, or :class:`ServerLost` when the server is gone.
        """
        try:
            answer = self._ask("POST", "completions", body, retries)
        except _Trouble as trouble:
            self._check_server(trouble)
            raise RequestFailed(str(trouble)) from None
        with self._lock:
            self.answered += 1
        return answer

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """Yields (job, ``function(job)``) as they finish, ``concurrency`` at a time.

        ``jobs`` is read little by little, in the caller's thread. An exception in ``function``
        ends the iteration.
        """
        waiting: queue.SimpleQueue[tuple[Job] | None] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[Job, Result | None, BaseException | None]]
        finished = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            while (item := waiting.get()) is not None and not stop.is_set():
                try:
                    finished.put((item[0], function(item[0]), None))
                except BaseException as error:
                    finished.put((item[0], None, error))

        jobs = iter(jobs)
        first = list(islice(jobs, 2 * self.arguments.concurrency))
        threads = min(len(first), self.arguments.concurrency)
        for job in first:
            waiting.put((job,))
        try:
            # Daemons: a program that is interrupted ends at once, not when the server answers.
            for _ in range(threads):
                threading.Thread(target=work, daemon=True).start()
            left = len(first)
            while left:
                job, result, error = finished.get()
                left -= 1
                if error is not None:
                    stop.set()
                    # What other threads have finished is not lost.
                    while not finished.empty():
                        job, result, other = finished.get()
                        if other is None:
                            yield job, result  # type: ignore[misc]
                    raise error
                for more in islice(jobs, 1):
                    waiting.put((more,))
                    left += 1
                yield job, result  # type: ignore[misc]
        finally:
            stop.set()
            for _ in range(threads):
                waiting.put(None)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        retries: int | None = None,
    ) -> dict[str, Any]:
        """One request with its attempts; raises what the last attempt raised."""
        most = self.arguments.retries if retries is None else min(retries, self.arguments.retries)
        for attempt in range(most + 1):
            if self._lost is not None:
                raise self._lost
            try:
                return self._attempt(method, path, body)
            except _Trouble as trouble:
                if attempt == most or self._closed.is_set():
                    raise
                with self._lock:
                    self.retried += 1
                # What one request is told to wait for concerns all of them.
                self._pace.hold(trouble.after)
                wait = random.uniform(0, min(MOST_SECONDS, BACKOFF_SECONDS * 2**attempt))
                self._closed.wait(wait)
        raise AssertionError("unreachable")

    def _attempt(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        self._closed.wait(self._pace.reserve())
        try:
            reply = self._http.request(method, f"{self.url}/{path}", json=body)
        except httpx2.TimeoutException as error:
            raise _Trouble(
                f"{type(error).__name__} after {self.arguments.timeout:g} s at most"
            ) from None
        except (httpx2.RequestError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            raise _Trouble(f"{type(error).__name__}: {error}") from None
        if reply.status_code >= 500 or reply.status_code in TRY_AGAIN:
            raise _Trouble(self._complaint(reply), _retry_after(reply))
        if reply.status_code in DENIED and (body is not None or reply.status_code != 404):
            self._lost = ServerLost(
                f"the server at '{self.url}' turns requests away ({self._complaint(reply)}); check "
                f"the key in {' or '.join(KEY_VARIABLES)} and the model's name"
            )
            raise self._lost
        if reply.status_code >= 300:
            raise RequestFailed(self._complaint(reply))
        try:
            answer = reply.json()
        except ValueError:
            raise _Trouble("an answer that is not JSON") from None
        if not isinstance(answer, dict):
            raise _Trouble("an answer that is not a JSON object")
        return answer

    def _check_server(self, trouble: _Trouble) -> None:
        """Raises :class:`ServerLost` unless the canary is answered."""
        with self._canary_lock:
            if self._lost is not None:
                raise self._lost
            if self.canary is not None:
                try:
                    self._attempt("POST", "completions", self.canary)
                    return
                except (_Trouble, RequestFailed):
                    pass
            advice = (
                "lower the rate with --backend-args requests_per_minute=N or concurrency=N"
                if "HTTP 429" in str(trouble)
                else "start it again"
            )
            self._lost = ServerLost(
                f"the server at '{self.url}' answers no more ({trouble}, again "
                f"and again) after {self.answered} answers, which are "
                f"kept; {advice}, and the same command continues"
            )
            raise self._lost

    def _complaint(self, reply: httpx2.Response) -> str:
        """The status and the server's own words, one line, without the key."""
        try:
            value = reply.json()
        except ValueError:
            value = reply.text
        for name in ("error", "message", "detail"):
            if isinstance(value, dict) and name in value:
                value = value[name]
        words = " ".join(str(value).split())[:300]
        if self._key:
            words = words.replace(self._key, "***")
        return f"HTTP {reply.status_code}: {words or reply.reason_phrase}"


class _Pace:
    """Spaces requests evenly, and holds all of them back when the server asks for it."""

    def __init__(self, per_minute: float):
        self.interval = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def reserve(self) -> float:
        """Takes the next place; returns the seconds to wait for it."""
        with self.lock:
            now = time.monotonic()
            at = max(now, self.next)
            self.next = max(self.next, at + self.interval)
            return at - now

    def hold(self, seconds: float) -> None:
        """No request starts for so long."""
        with self.lock:
            self.next = max(self.next, time.monotonic() + seconds)


def checked_url(url: str) -> str:
    """``url`` without a slash at its end; :class:`UserError` when it is none, or holds a secret."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise UserError(f"'{url}' is not a URL ({error}); give http://HOST:PORT/v1") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"'{url}' is not the URL of a server; give http://HOST:PORT/v1")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise UserError(
            f"the URL of the server '{parsed.host}' holds more than host, port and path, and it is "
            f"written into results; put the key into {KEY_VARIABLES[0]}"
        )
    return str(url).rstrip("/")


def _retry_after(reply: httpx2.Response) -> float:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, section 10.2.3)."""
    value = reply.headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
