from __future__ import annotations

import numpy as np
import pytest

from uav_perception.depth_pose.dense import DepthNetwork, network_size, planes, supported
from uav_perception.engine.own import own_engine
from uav_perception.engine.select import open_engine


def test_support_ends_away_from_the_points() -> None:
    near = supported(np.array([[0.1, 0.5]]), 100, 80)
    assert near[40, 10] and not near[40, 80]


def test_network_input_is_rgb_planes() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0], image[..., 2] = 10, 200  # blue, red
    blob = planes(image, 6, 4)
    assert blob.shape == (1, 3, 4, 6) and blob.dtype == np.float32
    assert (blob[0, 0] == 200).all() and (blob[0, 2] == 10).all()


@pytest.mark.parametrize(("picture", "size"), [((640, 480), (288, 192)), ((1280, 720), (320, 160)),
                                               ((1241, 376), (416, 128)), ((480, 640), (192, 256))])
def test_a_network_of_open_size_sees_pictures_in_about_their_aspect(picture: tuple[int, int], size: tuple[int, int]
                                                                    ) -> None:
    path = own_engine("uav_depth")
    assert path is not None and network_size(*picture) == size
    seen = DepthNetwork(open_engine(path, threads=1)).disparity(np.full((picture[1], picture[0], 3), 90, np.uint8))
    assert seen.shape == (size[1] // 2, size[0] // 2) and (seen > 0).all()
