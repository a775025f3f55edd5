"""What a process does at the very start, before ROS is loaded: memory, transport, and dying with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path

# glibc mallopt parameters (malloc.h): keep freed frames instead of giving the pages back and faulting them in again
MALLOPT = ((-3, 32 << 20), (-1, 256 << 20), (-2, 64 << 20))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
TRANSPORT_VARIABLES = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE",
                       "RMW_FASTRTPS_USE_QOS_FROM_XML")
FASTDDS_2 = ("humble", "iron", "jazzy")  # distributions whose Fast DDS knows the variable by its old name
SWITCH_S = 0.001  # a thread that wants the interpreter (a frame has come) waits this long at most, not 5 ms
SHARED_MEMORY = Path("/dev/shm")
SEGMENT_BYTES = 64 << 20
PARENT_VARIABLE = "UAV_PERCEPTION_DIE_WITH_PARENT"

# Shared memory with room for whole frames, and UDP for peers on other machines, as Fast DDS has by default.
PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com"><profiles>
  <transport_descriptors>
    <transport_descriptor><transport_id>shm</transport_id><type>SHM</type><segment_size>{size}</segment_size>
      <maxMessageSize>{message}</maxMessageSize><port_queue_capacity>512</port_queue_capacity></transport_descriptor>
    <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
  </transport_descriptors>
  <participant profile_name="uav_perception" is_default_profile="true"><rtps>
    <userTransports><transport_id>shm</transport_id><transport_id>udp</transport_id></userTransports>
    <useBuiltinTransports>false</useBuiltinTransports>
  </rtps></participant>
</profiles></dds>
"""


def prepare() -> None:
    """Everything below, once, first thing in ``main`` of every process of the graph."""
    tune_malloc()
    sys.setswitchinterval(SWITCH_S)
    choose_transport()
    die_with_parent()


def tune_malloc() -> bool:
    """Keep glibc from returning frame-sized blocks to the kernel; False where the user decides or it is not glibc."""
    if any(v in os.environ for v in MALLOC_VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in MALLOPT])


def transport() -> tuple[str, str]:
    """What Fast DDS will use here and why: one of ("user", ...), ("shm", ...), ("default", ...)."""
    chosen = [v for v in TRANSPORT_VARIABLES if os.environ.get(v)]
    if chosen and os.environ.get(chosen[0]) != str(profile_path()):
        return "user", f"{chosen[0]}={os.environ[chosen[0]]} is respected"
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return "default", f"RMW_IMPLEMENTATION={os.environ['RMW_IMPLEMENTATION']} is tuned in its own way"
    try:
        stat = os.statvfs(SHARED_MEMORY)
        free = stat.f_bavail * stat.f_frsize
    except OSError:
        free = 0
    if free < 6 * SEGMENT_BYTES and not chosen:
        return "default", (f"{SHARED_MEMORY} has {free >> 20} MB free, {6 * SEGMENT_BYTES >> 20} are needed; large "
                           "images may be lost between processes (in a container: --shm-size=1g or --ipc=host)")
    return "shm", f"{SEGMENT_BYTES >> 20} MB shared-memory segments for frames, UDP for other machines"


def profile_path() -> Path:
    """Where the Fast DDS profile of this user is kept."""
    return Path(tempfile.gettempdir()) / f"uav_perception_fastdds_{os.getuid()}.xml"


def choose_transport() -> None:
    """Point Fast DDS to a profile with room for whole frames, unless the user has chosen something."""
    if transport()[0] != "shm":
        return
    path, text = profile_path(), PROFILE.format(size=SEGMENT_BYTES, message=SEGMENT_BYTES // 4)
    if not path.is_file() or path.read_text() != text:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(text)
        os.replace(fresh, path)
    old = os.environ.get("ROS_DISTRO") in FASTDDS_2
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"] = str(path)


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, so that no half graph flies on (Linux only)."""
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
