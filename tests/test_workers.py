"""Threads that share work: all is done, and errors come out."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gymbag.workers import Workers


@pytest.fixture(params=[0, 1, 3], ids="{} threads".format)
def workers(request: pytest.FixtureRequest) -> Workers:
    workers = Workers()
    workers.count = request.param
    return workers


def test_every_task_is_done_once(workers: Workers) -> None:
    done: list[int] = []
    workers.run(functools.partial(done.append, number) for number in range(200))
    assert sorted(done) == list(range(200))


def test_a_task_that_was_begun_gives_its_result_or_its_error(workers: Workers) -> None:
    results = [workers.begin(functools.partial(divmod, number, 7)) for number in range(50)]
    assert [result() for result in results] == [divmod(number, 7) for number in range(50)]
    with pytest.raises(ZeroDivisionError):
        workers.begin(lambda: 1 // 0)()


def test_tasks_are_taken_as_they_are_needed(workers: Workers) -> None:
    lock, done, ahead = threading.Lock(), [0], []

    def task() -> None:
        time.sleep(0.001)
        with lock:
            done[0] += 1

    def tasks() -> Iterator[Callable[[], None]]:
        for taken in range(100):
            ahead.append(taken - done[0])
            yield task

    workers.run(tasks())
    assert max(ahead) < 20


def test_what_a_task_raises_comes_out_when_none_is_under_way(workers: Workers) -> None:
    running = []

    def task(number: int) -> None:
        running.append(number)
        try:
            if number == 5:
                raise ValueError("five")
            time.sleep(0.01)
        finally:
            running.remove(number)

    with pytest.raises(ValueError, match="five"):
        workers.run(functools.partial(task, number) for number in range(10))
    assert not running
    workers.run([lambda: None])
