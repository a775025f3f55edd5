"""What the user has set is respected; otherwise frames fit into shared memory."""

from __future__ import annotations

import os
from collections import namedtuple

import pytest

from uav_perception.runtime import process


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in (*process.TRANSPORT_VARIABLES, *process.MALLOC_VARIABLES, "RMW_IMPLEMENTATION", "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process.tempfile, "gettempdir", lambda: str(tmp_path))


def space(monkeypatch, free):
    stat = namedtuple("stat", "f_bavail f_frsize")
    monkeypatch.setattr(process.os, "statvfs", lambda path: stat(free, 1))


def test_a_profile_with_room_for_frames_is_chosen(monkeypatch):
    space(monkeypatch, 1 << 30)
    process.choose_transport()
    file = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]
    with open(file) as f:
        text = f.read()
    assert f"<segment_size>{64 << 20}</segment_size>" in text and "UDPv4" in text
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ
    assert process.transport()[0] == "shm"  # our own choice is not taken for the user's in a child


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_older_distributions_know_the_variable_by_another_name(monkeypatch, distro):
    space(monkeypatch, 1 << 30)
    monkeypatch.setenv("ROS_DISTRO", distro)
    process.choose_transport()
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ and "FASTDDS_DEFAULT_PROFILES_FILE" not in os.environ


@pytest.mark.parametrize("name", process.TRANSPORT_VARIABLES)
def test_the_users_choice_is_respected(monkeypatch, name):
    space(monkeypatch, 1 << 30)
    monkeypatch.setenv(name, "theirs")
    before = dict(os.environ)
    process.choose_transport()
    assert dict(os.environ) == before and process.transport()[0] == "user"


def test_a_container_with_little_shared_memory_keeps_the_default_and_says_why(monkeypatch):
    space(monkeypatch, 64 << 20)
    process.choose_transport()
    kind, why = process.transport()
    assert kind == "default" and "--shm-size" in why and "FASTDDS_DEFAULT_PROFILES_FILE" not in os.environ


def test_other_middleware_is_left_alone(monkeypatch):
    space(monkeypatch, 1 << 30)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    process.choose_transport()
    assert process.transport()[0] == "default" and "FASTDDS_DEFAULT_PROFILES_FILE" not in os.environ


@pytest.mark.parametrize("name", process.MALLOC_VARIABLES)
def test_malloc_settings_of_the_user_win(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert process.tune_malloc() is False
