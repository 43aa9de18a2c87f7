"""Parts of a work in several Python threads: every part once, the first error, and the bits of one thread."""

import threading
import time

import numpy as np
import pytest

import fastxent as fx
from fastxent import evaluator
from fastxent._passes.side_by_side import side_by_side


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_part_once(threads):
    done, workers = [], set()

    def work(worker, i):
        done.append(i)
        workers.add((worker, threading.get_ident()))
        time.sleep(1e-4)

    for count in (0, 1, 3, 40):
        done.clear()
        side_by_side(count, work, threads)
        assert sorted(done) == list(range(count))
    assert {worker for worker, _ in workers} <= set(range(threads))
    assert not [thread for thread in threading.enumerate() if thread.name == "fastxent-side-by-side"]


def test_the_error_of_the_first_part():
    late = threading.Event()

    def work(worker, i):
        if i == 0:
            late.wait(5)
            raise ValueError("part 0")
        late.set()
        raise ValueError("part 1")

    with pytest.raises(ValueError, match="part 0"):
        side_by_side(10, work, 2)


def test_an_interrupt_comes_first():
    begun, caught = threading.Event(), threading.Event()

    def work(worker, i):
        if worker == 1:
            begun.set()
            caught.wait(5)
            raise ValueError("of a part before")
        if begun.wait(5) and i > 1:
            caught.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(10, work, 2)


def test_where_no_thread_can_be_made(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers = []
    side_by_side(9, lambda worker, i: workers.append(worker), 4)
    assert workers == [0] * 9


def data(rows=700, classes=12):
    rng = np.random.default_rng(3)
    x = 4 * rng.standard_normal((rows, classes)).astype(np.float32)
    x[5::60], x[9::70, 3] = np.nan, -np.inf
    labels = rng.integers(-1, classes, rows)
    labels[::31] = -100
    return x, labels


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("columns", [{}, {"groups": 13, "sample_weight": 5, "mask": 2}], ids=["plain", "columns"])
def test_an_evaluation_has_the_bits_of_one_thread(threads, columns, monkeypatch):
    monkeypatch.setattr("fastxent._passes.rows.BLOCK_ROWS", 40)
    x, labels = data()
    values = {name: np.arange(len(x)) % n for name, n in columns.items()}
    states = []
    for number in (1, threads):
        with fx.num_threads(number):
            one = fx.Evaluator(temperatures=[0.5])
            one.update(x, labels, **values)
            one.update(x[:90], labels[:90], **{name: column[:90] for name, column in values.items()})
            states.append(one.state())
    monkeypatch.setattr(evaluator, "SIDE_CLASSES", 0)
    one = fx.Evaluator(temperatures=[0.5])
    one.update(x, labels, **values)
    one.update(x[:90], labels[:90], **{name: column[:90] for name, column in values.items()})
    assert states == [one.state()] * 2


def test_the_first_bad_row_is_named(monkeypatch):
    monkeypatch.setattr("fastxent._passes.rows.BLOCK_ROWS", 40)
    x, labels = data()
    weights = np.ones(len(x))
    weights[[130, 170, 600]] = -1
    one = fx.Evaluator()
    before = one.state()
    with fx.num_threads(3), pytest.raises(ValueError, match=r"sample_weight\[130\]"):
        one.update(x, labels, sample_weight=weights)
    assert one.state() == before
