"""Bags of every kind are read alike; damaged ones give what is left of them and say what is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest_scene import CAMERA, PERIOD_NS, START_NS, scene, write_scene

from uav_perception.camera.bag import BagPictures
from uav_perception.camera.bagfile import BagFile, typestore
from uav_perception.camera.encodings import bgr_from_raw
from uav_perception.errors import BagError
from uav_perception.offline import messages as msg
from uav_perception.offline.bags import BagWriter


def read(path: Path) -> tuple[list[int], list[np.ndarray], str]:
    pictures = BagPictures(path)
    stamps, images = [], []
    for p in pictures.pictures():
        stamps.append(p.stamp_ns)
        images.append(p.decode())
    notes = pictures.notes()
    pictures.close()
    return stamps, images, notes


@pytest.mark.parametrize(("storage", "compression", "name"), [
    ("mcap", "", "a"), ("mcap", "chunk", "b"), ("mcap", "message", "c"), ("mcap", "file", "d"), ("sqlite3", "", "e"),
    ("sqlite3", "message", "f"), ("sqlite3", "file", "g"), ("mcap", "chunk", "h.mcap")])
def test_every_storage_gives_the_same_pictures(tmp_path: Path, storage: str, compression: str, name: str) -> None:
    path = write_scene(tmp_path / name, 7, storage, compression)
    stamps, images, notes = read(path)
    assert stamps == [START_NS + i * PERIOD_NS for i in range(7)]
    assert all(np.array_equal(image, scene(i)[0]) for i, image in enumerate(images))
    assert notes == ""


def test_writer_refuses_what_exists_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BagWriter(tmp_path / "x") as bag:
        bag.write("/truth/pose", msg.pose_stamped(np.zeros(3), np.array([1.0, 0, 0, 0]), 5), 5)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    write_scene(tmp_path / "x", 2)
    with pytest.raises(BagError, match="exists"):
        BagWriter(tmp_path / "x")


def cut(path: Path, keep: float) -> Path:
    file = next(path.glob("*.mcap")) if path.is_dir() else path
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * keep)])
    return path


@pytest.mark.parametrize("compression", ["", "chunk"])
def test_truncated_mcap_gives_its_beginning(tmp_path: Path, compression: str) -> None:
    path = cut(write_scene(tmp_path / "t", 60, compression=compression), 0.7)
    stamps, images, notes = read(path)
    assert 15 <= len(stamps) < 60
    assert np.array_equal(images[-1], scene(len(images) - 1)[0])
    assert "cut short" in notes and "could be read" in notes and "\n" not in notes


@pytest.mark.parametrize("compression", ["chunk", "file"])
def test_what_is_compressed_is_read_up_to_the_cut(tmp_path: Path, compression: str) -> None:
    path = write_scene(tmp_path / "t", 25, compression=compression)  # less than a chunk
    file = next(f for f in path.iterdir() if f.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[:file.stat().st_size * 3 // 4])
    stamps, images, notes = read(path)
    assert 5 < len(stamps) < 25 and np.array_equal(images[-1], scene(len(images) - 1)[0])
    assert "incomplete" in notes or "cut short" in notes


def test_missing_index(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "t", 20)
    file = next(path.glob("*.mcap"))
    data = file.read_bytes()
    summary = int.from_bytes(data[-28:-20], "little")
    file.write_bytes(data[:summary])  # all data, no summary, no footer
    stamps, _, notes = read(path)
    assert len(stamps) == 20 and "t.mcap" in notes


def test_damaged_chunk_is_passed_over(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "t", 200, compression="chunk", jpeg=False)
    file = next(path.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 2000] = b"\xa5" * 2000
    file.write_bytes(bytes(data))
    stamps, _, notes = read(path)
    assert 0 < len(stamps) < 200 and stamps == sorted(stamps)
    assert stamps[-1] == START_NS + 199 * PERIOD_NS  # what lies behind the damage is read
    assert notes and "\n" not in notes


def test_no_metadata_and_missing_split(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "t", 5)
    yaml = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").unlink()
    stamps, _, notes = read(path)
    assert len(stamps) == 5 and "no metadata.yaml" in notes
    (path / "metadata.yaml").write_text(yaml.replace("- t.mcap", "- t.mcap\n  - t_1.mcap"))
    stamps, _, notes = read(path)
    assert len(stamps) == 5 and "t_1.mcap" in notes and "missing" in notes
    (path / "metadata.yaml").write_text("{]")
    assert "damaged" in read(path)[2]


def test_split_bag(tmp_path: Path) -> None:
    a, b = write_scene(tmp_path / "a", 4), write_scene(tmp_path / "b", 4, stamps=[
        START_NS + (4 + i) * PERIOD_NS for i in range(4)])
    shutil.copy(b / "b.mcap", a / "a_1.mcap")
    text = (a / "metadata.yaml").read_text()
    (a / "metadata.yaml").write_text(text.replace("- a.mcap", "- a.mcap\n  - a_1.mcap"))
    assert len(read(a)[0]) == 8


def test_truncated_sqlite(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "t", 60, "sqlite3")
    file = next(path.glob("*.db3"))
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * 0.6) // 4096 * 4096])
    stamps, _, notes = read(path)
    assert 10 < len(stamps) < 60 and "t.db3" in notes


@pytest.mark.parametrize("make", ["empty", "garbage", "nothing", "no_messages", "other_suffix", "no_images",
                                  "only_name", "no_camera"])
def test_refused_in_one_line(tmp_path: Path, make: str) -> None:
    path = tmp_path / "t.mcap"
    if make == "empty":
        path.write_bytes(b"")
    elif make == "garbage":
        path.write_bytes(b"\x89MCAP0\r\n" + b"\xff" * 500)
    elif make == "no_messages":
        with BagWriter(path):
            pass
    elif make == "other_suffix":
        path = tmp_path / "t.ulg"
        path.write_bytes(b"ulog")
    elif make == "no_images":
        with BagWriter(path) as bag:
            bag.write("/truth/pose", msg.pose_stamped(np.zeros(3), np.array([1.0, 0, 0, 0]), 5), 5)
    elif make == "no_camera":
        with BagWriter(path) as bag:
            bag.write("/thing", msg.raw_image(np.zeros((4, 4), np.float32), "32FC1", 5, "c"), 5)
    elif make == "only_name":
        path = tmp_path / "t"
        path.mkdir()
    with pytest.raises(BagError) as said:
        BagPictures(path)
    assert "\n" not in str(said.value) and str(path) in str(said.value)
    assert make != "no_camera" or "/thing (32FC1)" in str(said.value)


def test_gaps_duplicate_and_backward_stamps(tmp_path: Path) -> None:
    offsets = [0, 1, 1, 2, 1, 3, 40, 41]  # a duplicate, a step back, a gap of 37 periods
    path = write_scene(tmp_path / "t", 8, stamps=[START_NS + o * PERIOD_NS for o in offsets])
    pictures = BagPictures(path)
    stamps = [(p.stamp_ns - START_NS) // PERIOD_NS for p in pictures.pictures()]
    assert stamps == [0, 1, 2, 3, 40, 41]
    assert pictures.counts["with a duplicate stamp left out"] == 1
    assert pictures.counts["with a backward stamp left out"] == 1
    assert pictures.longest_gap_ns == 37 * PERIOD_NS
    pictures.close()


def test_unstamped_images_get_recording_time(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "t", 3, stamps=[0, 0, 0])
    stamps, _, notes = read(path)
    assert stamps == [START_NS + i * PERIOD_NS for i in range(3)] and "recording time" in notes


def test_mixed_encodings_in_one_topic(tmp_path: Path) -> None:
    bgr, _ = scene(0)
    gray = bgr[:, :, 1]
    pictures = [("bgr8", bgr), ("rgb8", bgr[:, :, ::-1]), ("mono8", gray), ("mono16", gray.astype(np.uint16) << 8),
                ("16UC1", gray.astype(np.uint16) * 16), ("bayer_rggb8", gray), ("yuv422", np.dstack([gray] * 2)),
                ("32FC1", gray.astype(np.float32)), ("bgra8", np.dstack([bgr, gray]))]
    with BagWriter(tmp_path / "t") as bag:
        for i, (encoding, image) in enumerate(pictures):
            ns = START_NS + i * PERIOD_NS
            bag.write("/image", msg.raw_image(np.ascontiguousarray(image), encoding, ns, "c"), ns)
    source = BagPictures(tmp_path / "t")
    decoded, refused = [], []
    for p in source.pictures():
        try:
            decoded.append(p.decode())
        except Exception as e:
            refused.append(str(e))
    source.close()
    assert len(decoded) == 8 and all(d.shape == bgr.shape and d.dtype == np.uint8 for d in decoded)
    assert np.array_equal(decoded[0], bgr) and np.array_equal(decoded[1], bgr) and np.array_equal(decoded[-1], bgr)
    assert np.array_equal(decoded[2][:, :, 0], gray) and np.array_equal(decoded[3][:, :, 0], gray)
    assert len(refused) == 1 and "32FC1" in refused[0]


def test_unknown_and_other_types_are_named_not_read(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = typestore()
    with Writer(tmp_path / "t", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        image = writer.add_connection("/image", msg.IMAGE, typestore=store)
        odd = writer.add_connection("/odd", "acme_msgs/msg/Rocket", msgdef="float32 thrust\n",
                                    rihs01="RIHS01_" + "0" * 64)
        old = writer.add_connection("/detections", msg.BOXES, msgdef="std_msgs/Header header\n",
                                    rihs01="RIHS01_" + "1" * 64)
        message = msg.raw_image(scene(0)[0], "bgr8", START_NS, "c")
        writer.write(image, START_NS, store.serialize_cdr(message, msg.IMAGE))
        writer.write(odd, START_NS, b"\x00\x01\x00\x00\x00\x00\x00\x00")
        writer.write(old, START_NS, b"\x00\x01\x00\x00\x00\x00\x00\x00")
    with BagFile(tmp_path / "t") as bag:
        assert bag.mismatched() == ["/detections (vision_msgs/msg/Detection2DArray: another version)",
                                    "/odd (acme_msgs/msg/Rocket: unknown type)"]
    assert len(read(tmp_path / "t")[0]) == 1


def test_several_cameras_need_a_name(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "t") as bag:
        for name in ("/left/image", "/right/image"):
            bag.write(name, msg.raw_image(scene(0)[0], "bgr8", START_NS, "c"), START_NS)
    with pytest.raises(BagError, match="/left/image, /right/image"):
        BagPictures(tmp_path / "t")
    assert BagPictures(tmp_path / "t", "/right/image").topic == "/right/image"
    with pytest.raises(BagError, match="/nose/image"):
        BagPictures(tmp_path / "t", "/nose/image")


def test_wrong_intrinsics_do_not_stop_the_pictures(tmp_path: Path) -> None:
    info = msg.camera_info(CAMERA, START_NS)
    object.__setattr__(info, "k", np.full(9, np.nan))
    with BagWriter(tmp_path / "t") as bag:
        bag.write("/camera/image", msg.raw_image(scene(0)[0], "bgr8", START_NS, "c"), START_NS)
        bag.write("/camera/camera_info", info, START_NS)
    pictures = BagPictures(tmp_path / "t")
    assert next(iter(pictures.pictures())).camera is None
    assert "NaN" in pictures.notes() and "without intrinsics" in pictures.notes()
    pictures.close()


def test_short_image_data_is_an_error_of_one_line() -> None:
    with pytest.raises(Exception, match="10 bytes for a 64x48"):
        bgr_from_raw("bgr8", 64, 48, 192, False, bytes(10))
