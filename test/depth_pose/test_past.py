from __future__ import annotations

import numpy as np

from uav_perception.depth_pose.past import Past
from uav_perception.geometry import se3_exp, se3_inverse

TENTH = 10**8


def test_what_was_kept_is_seen_from_where_the_camera_is_now() -> None:
    rng = np.random.default_rng(0)
    past, world = Past[int](0.15, 0.55), [np.eye(4)]
    for k in range(10):
        if k:
            motion = se3_exp(rng.normal(0, 0.1, 6))
            past.move(motion)
            world.append(world[-1] @ se3_inverse(motion))
        past.keep(k * TENTH, k)
    found = list(past.before(9 * TENTH))
    assert [what for _, what, _ in found] == [4, 6, 8]  # every other frame, none older
    for age, what, past_from_cur in found:
        assert abs(age - (9 - what) / 10) < 1e-9
        np.testing.assert_allclose(past_from_cur, se3_inverse(world[what]) @ world[9], atol=1e-12)


def test_a_reset_forgets_pictures_and_place() -> None:
    past = Past[str](0.0, 1.0)
    past.keep(0, "a")
    past.move(se3_exp([1.0, 0, 0, 0, 0, 0]))
    past.reset()
    assert not list(past.before(1))
    past.keep(1, "b")
    [(_, what, pose)] = past.before(2)
    assert what == "b" and np.array_equal(pose, np.eye(4))
