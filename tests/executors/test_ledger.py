"""Which job comes next."""

from olmeval.executors.ledger import Ledger


def ledger(keys: str, retries: int = 0) -> "Ledger[str, None]":
    return Ledger(list(keys), retries, lambda key: key, None)


def test_without_affinity_jobs_come_in_their_order() -> None:
    jobs: Ledger[str, None] = Ledger(list("abc"), 0, None, None)
    assert [jobs.take(None, ()) for _ in range(4)] == [0, 1, 2, None]


def test_a_worker_goes_on_with_its_key() -> None:
    jobs = ledger("abababc")
    assert [jobs.take("b", {"a"}) for _ in range(3)] == [1, 3, 5]


def test_then_it_takes_a_key_that_nobody_has() -> None:
    jobs = ledger("aabbc")
    assert jobs.take("x", {"a"}) == 2
    assert jobs.take("x", {"a", "b"}) == 4


def test_then_it_helps_where_most_is_left() -> None:
    jobs = ledger("abbb")
    assert jobs.take("x", {"a", "b"}) == 1


def test_a_failed_job_is_the_next_of_its_key_until_its_attempts_are_used_up() -> None:
    jobs = ledger("aab", retries=1)
    assert jobs.take("a", ()) == 0
    assert jobs.fail(0, "died") is None
    assert (jobs.pending, jobs.unfinished) == (3, 3)
    assert jobs.take("a", ()) == 0
    done = jobs.fail(0, "died again")
    assert done is not None
    assert (done.index, done.error, done.attempts) == (0, "died again", 2)
    assert (jobs.pending, jobs.unfinished) == (2, 2)
    assert jobs.take("a", ()) == 1
