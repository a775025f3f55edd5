from __future__ import annotations

import numpy as np

from uav_perception.depth_pose.dense import planes, supported


def test_support_ends_away_from_the_points() -> None:
    near = supported(np.array([[0.1, 0.5]]), 100, 80)
    assert near[40, 10] and not near[40, 80]


def test_network_input_is_rgb_planes() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0], image[..., 2] = 10, 200  # blue, red
    blob = planes(image, 6, 4)
    assert blob.shape == (1, 3, 4, 6) and blob.dtype == np.float32
    assert (blob[0, 0] == 200).all() and (blob[0, 2] == 10).all()
