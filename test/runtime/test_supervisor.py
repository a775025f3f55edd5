"""Real processes: started again when they die, ended in order, leaked shared memory freed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest

from uav_perception.errors import InputError, LinkError, ModelError
from uav_perception.runtime import supervisor as module
from uav_perception.runtime.supervisor import Supervisor, clean_shared_memory

LOYAL = ("import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); print('up', flush=True); "
         "time.sleep(60)")


def python(text):
    return [sys.executable, "-c", text]


def until(done, seconds=10.0):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def keeper(tmp_path):
    made = Supervisor(tmp_path)
    yield made
    made.stop(0.0)


def test_a_process_that_dies_is_started_again(keeper):
    keeper.start("loyal", python(LOYAL))
    until(lambda: keeper.last_line("loyal") == "up")
    first = keeper.pids["loyal"]
    os.kill(first, 9)
    events = []
    until(lambda: events.extend(keeper.poll()) or keeper.restarts["loyal"] == 1)
    assert "SIGKILL" in events[0] and "started again" in events[1]
    assert keeper.pids["loyal"] != first


def test_bad_input_is_raised_as_the_child_raised_it_and_never_repeated(keeper):
    line = "[ERROR] [17.5] [uav1.detector]: ModelError: model x.onnx; expected an ONNX file; check the path"
    keeper.start("perception", python(f"import sys; print('[INFO] [1.0] [x]: hello'); print({line!r}); sys.exit(2)"))
    with pytest.raises(ModelError) as raised:
        until(lambda: keeper.poll() and False)
    assert str(raised.value) == "uav1.detector: model x.onnx; expected an ONNX file; check the path"


def test_bad_input_of_the_command_line_kind(keeper):
    line = "uav-perception: LinkError: port 5 is taken; expected a free one; choose another"
    keeper.start("flight_link", python(f"import sys; print({line!r}); sys.exit(2)"))
    with pytest.raises(LinkError, match="flight_link: port 5 is taken"):
        until(lambda: keeper.poll() and False)


def test_bad_input_without_words_names_the_log(keeper):
    keeper.start("mute", python("import sys; sys.exit(2)"))
    with pytest.raises(InputError, match=r"mute\.log"):
        until(lambda: keeper.poll() and False)


def test_ending_is_in_order_and_the_stubborn_are_killed(keeper, tmp_path):
    note = f"open({str(tmp_path / 'order')!r}, 'a').write"
    loyal = f"import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: ({note}(NAME), sys.exit(0))); " \
            "print('up', flush=True); time.sleep(60)"
    keeper.start("recorder", python(loyal.replace("NAME", "'recorder '")))
    keeper.start("stage", python(loyal.replace("NAME", "'stage '")))
    keeper.start("stubborn", python("import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
                                    "print('up', flush=True); time.sleep(60)"))
    until(lambda: all(keeper.last_line(n) == "up" for n in ("recorder", "stage", "stubborn")))
    begun = time.monotonic()
    codes = keeper.stop(1.0, last=("recorder",), last_s=5.0)
    assert codes == {"recorder": 0, "stage": 0, "stubborn": -9}
    assert (tmp_path / "order").read_text() == "stage recorder "
    assert time.monotonic() - begun < 5.0


def test_children_die_with_their_supervisor(tmp_path):
    child = (f"import sys; sys.path.insert(0, {os.getcwd()!r})\n"
             "from uav_perception.runtime.process import die_with_parent; import time; die_with_parent()\n"
             "print('up', flush=True); time.sleep(60)")
    parent = (f"import sys, time; sys.path.insert(0, {os.getcwd()!r})\n"
              "from pathlib import Path; from uav_perception.runtime.supervisor import Supervisor\n"
              f"s = Supervisor(Path({str(tmp_path)!r})); s.start('child', [sys.executable, '-c', {child!r}])\n"
              "print(s.pids['child'], flush=True); time.sleep(60)")
    process = subprocess.Popen(python(parent), stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    until(lambda: (tmp_path / "child.log").read_text() == "up\n")
    process.kill()
    process.wait()

    def gone():
        try:
            with open(f"/proc/{child}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone, 5.0)


@pytest.mark.parametrize("dds", ["fastdds", "fastrtps"])
def test_only_segments_that_nobody_holds_are_freed(tmp_path, monkeypatch, dds):
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    for name in (f"{dds}_dead", f"{dds}_alive", f"{dds}_port7410"):
        (tmp_path / name).write_bytes(b"data")
        (tmp_path / f"{name}_el").write_bytes(b"")
    (tmp_path / "somebody_elses").write_bytes(b"data")
    with open(tmp_path / f"{dds}_alive_el", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert clean_shared_memory() == 1
    assert {p.name for p in tmp_path.iterdir()} == {f"{dds}_alive", f"{dds}_alive_el", f"{dds}_port7410",
                                                    f"{dds}_port7410_el", "somebody_elses"}
