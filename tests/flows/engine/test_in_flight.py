"""The bound on futures in flight: kept by several threads, drained and stopped."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from flows.engine.in_flight import InFlight, StoppedError


def test_no_more_than_the_bound_are_in_flight_whoever_submits():
    most = 0
    running = set()
    lock = threading.Lock()
    in_flight = InFlight(lambda: 3)

    def work(number):
        nonlocal most
        with lock:
            running.add(number)
            most = max(most, len(running))
        time.sleep(0.002)
        with lock:
            running.remove(number)
        return number

    with ThreadPoolExecutor(20) as pool:

        def collect(numbers):
            def submit(number):
                return pool.submit(work, number)

            return [(n, f.result()) for n, f in in_flight.as_completed(numbers, submit)]

        halves = [pool.submit(collect, range(0, 30)), pool.submit(collect, range(30, 60))]
        pairs = [pair for half in halves for pair in half.result()]
    assert sorted(pairs) == [(n, n) for n in range(60)]
    assert most == 3


def test_items_are_taken_only_when_there_is_room():
    taken = []

    def items():
        for number in range(5):
            taken.append(number)
            yield number

    futures = [Future() for _ in range(5)]
    futures[0].set_result(None)
    loop = InFlight(lambda: 1).as_completed(items(), futures.__getitem__)
    assert next(loop) == (0, futures[0])
    assert taken == [0, 1, 2]  # one is in flight, one is next


@pytest.mark.parametrize(("end", "collected"), [("drain", [0, 1]), ("stop", [])])
def test_an_end_lets_what_is_in_flight_finish_or_abandons_it(end, collected):
    in_flight = InFlight(lambda: 2)
    futures = {}
    got = []

    def submit(number):
        futures[number] = Future()
        return futures[number]

    def collect():
        try:
            for number, _ in in_flight.as_completed(range(9), submit):
                got.append(number)
        except StoppedError:
            got.append("stopped")

    thread = threading.Thread(target=collect)
    thread.start()
    while len(futures) < 2:
        time.sleep(0.001)
    getattr(in_flight, end)()
    time.sleep(0.01)
    for future in futures.values():
        future.set_result(None)
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert sorted(n for n in got if n != "stopped") == collected
    assert ("stopped" in got) == (end == "stop")
    assert len(futures) == 2


def test_a_place_is_given_back_where_submission_fails():
    in_flight = InFlight(lambda: 1)

    def refuse(_):
        raise OSError("no scheduler")

    with pytest.raises(OSError, match="no scheduler"):
        list(in_flight.as_completed([1], refuse))
    done = Future()
    done.set_result(None)
    assert [n for n, _ in in_flight.as_completed([2], lambda _: done)] == [2]
