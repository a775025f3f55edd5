from __future__ import annotations

from pathlib import Path

import pytest

from uav_perception.detect.coco import category_of_class, parse_maps, read_coco
from uav_perception.errors import InputError

OURS = ("person", "car", "truck", "bus", "two-wheeler")


def test_by_name_then_map_then_synonym() -> None:
    categories = {"Person": 1, "Car": 2, "Bicycle": 3, "OtherVehicle": 4}
    assert category_of_class(categories, OURS, {}) == {0: 1, 1: 2, 4: 3}
    assert category_of_class(categories, OURS, parse_maps(["OtherVehicle=truck,bus"])) == {0: 1, 1: 2, 2: 4, 3: 4, 4: 3}


def test_a_map_takes_classes_from_equal_names() -> None:
    assert category_of_class({"car": 1, "bus": 2}, OURS, parse_maps(["car=car,truck,bus"])) == {1: 1, 2: 1, 3: 1}


def test_one_category_gathers_all_vehicles_by_synonym() -> None:
    assert category_of_class({"vehicle": 7}, OURS, {}) == {1: 7, 2: 7, 3: 7}


@pytest.mark.parametrize("text", ["car", "=car", "car=", "car= ,"])
def test_malformed_maps(text: str) -> None:
    with pytest.raises(InputError):
        parse_maps([text])


def test_nothing_in_common() -> None:
    with pytest.raises(InputError, match="zebra"):
        category_of_class({"zebra": 1}, OURS, {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{"id": 1}], "categories": []}'])
def test_broken_annotations(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError):
        read_coco(tmp_path / "a.json")
