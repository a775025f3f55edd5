"""Newest wins, and one bad item is not the end."""

from __future__ import annotations

import threading
import time

from uav_perception.errors import SourceError
from uav_perception.runtime.latest import Latest
from uav_perception.runtime.worker import Worker


def test_newest_wins_and_the_rest_are_counted():
    slot = Latest()
    for i in range(5):
        slot.put(i)
    assert (slot.take(0.0), slot.dropped, slot.take(0.0)) == (4, 4, None)


def test_take_waits_for_a_late_item_and_hands_over_the_same_object():
    slot, thing = Latest(), object()
    threading.Timer(0.05, slot.put, [thing]).start()
    assert slot.take(2.0) is thing


def test_clear_wakes_a_waiting_reader():
    slot = Latest()
    threading.Timer(0.05, slot.clear).start()
    begun = time.monotonic()
    assert slot.take(5.0) is None and time.monotonic() - begun < 2.0


def test_a_slow_worker_works_on_the_newest_and_order_is_kept():
    done, release, begun = [], threading.Event(), threading.Event()

    def work(item):
        begun.set()
        release.wait(2.0)
        done.append(item)

    worker = Worker("slow", work, lambda message: None)
    worker.start()
    worker.put(0)
    assert begun.wait(2.0)
    for i in range(1, 10):
        worker.put(i)
    release.set()
    deadline = time.monotonic() + 2.0
    while len(done) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.stop()
    assert done == [0, 9] and worker.dropped == 8


def test_exceptions_are_said_in_one_line_and_the_next_item_is_taken():
    said, done = [], threading.Event()

    def work(item):
        if item == "known":
            raise SourceError("a torn picture", "a whole one", "send it again")
        if item == "defect":
            raise ZeroDivisionError("oops")
        done.set()

    worker = Worker("stage", work, said.append)
    worker.start()
    for item in ("known", "defect", "good"):
        worker.put(item)
        time.sleep(0.1)
    assert done.wait(2.0)
    worker.stop()
    assert said == ["a torn picture; expected a whole one; send it again", "ZeroDivisionError: oops"]


def test_a_worker_starts_again_after_stop_without_old_items():
    done = []
    worker = Worker("stage", done.append, lambda message: None)
    worker.start()
    worker.stop()
    worker.put("left over")
    worker.start()
    worker.put("new")
    deadline = time.monotonic() + 2.0
    while not done and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.stop()
    assert done == ["new"]
