"""A recording's rangefinder comes in step with its pictures, on the same shifted clock."""

from __future__ import annotations

from uav_perception.camera.bag_types import typestore
from uav_perception.ros import convert
from uav_perception.ros.companion import RecordedHeights


def test_heights_up_to_a_frame_are_restamped(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    types = typestore()
    make = {k: types.types[k] for k in ("sensor_msgs/msg/Range", "std_msgs/msg/Header", "builtin_interfaces/msg/Time")}
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        connection = bag.add_connection("/uav1/height_agl", "sensor_msgs/msg/Range", typestore=types)
        for i in range(5):
            head = make["std_msgs/msg/Header"](make["builtin_interfaces/msg/Time"](100 + i, 0), "base_link")
            message = make["sensor_msgs/msg/Range"](head, 1, 0.1, 0.2, 50.0, 10.0 + i, 0.0)
            bag.write(connection, i, types.serialize_cdr(message, "sensor_msgs/msg/Range"))
    heights = RecordedHeights(tmp_path / "bag")
    second = 10**9
    first = heights.until(102 * second, shift_ns=1000 * second)
    assert [m.range for m in first] == [10.0, 11.0, 12.0]
    assert [convert.to_ns(m.header.stamp) for m in first] == [1100 * second, 1101 * second, 1102 * second]
    assert heights.until(102 * second, 1000 * second) == []
    assert [m.range for m in heights.until(200 * second, 0)] == [13.0, 14.0]
    heights.close()


def test_a_bag_without_a_rangefinder_says_nothing(tmp_path):
    from rosbags.rosbag2 import Writer

    types = typestore()
    with Writer(tmp_path / "bag", version=9) as bag:
        connection = bag.add_connection("/chatter", "std_msgs/msg/String", typestore=types)
        text = types.types["std_msgs/msg/String"]("hello")
        bag.write(connection, 1, types.serialize_cdr(text, "std_msgs/msg/String"))
    assert RecordedHeights(tmp_path / "bag").until(10**18, 0) == []
