"""Devices from a configuration: what it says wrongly is told by its key."""

from __future__ import annotations

import pytest

from real_robot.build import BuildError, build_cameras
from real_robot.settings import SettingsError


def camera(**settings: object) -> dict[str, object]:
    return {"top": {"driver": "opencv", "source": "top.avi", "fps": 10, "calibration": "top.json", **settings}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"driver": "opencvv"}, "cameras.top.driver: expected one of opencv, realsense, got 'opencvv'; did you mean"),
        ({"widht": 640}, "cameras.top: .*widht"),
        ({"stale": 0}, "cameras.top.stale: expected seconds above 0 without a picture, got 0"),
        ({"stale": "soon"}, "cameras.top.stale: .*got 'soon'"),
        ({"stale": True}, "cameras.top.stale: .*got True"),
    ],
)
def test_mistakes_are_told_by_their_key(settings: dict[str, object], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        build_cameras(camera(**settings))


def test_a_camera_is_lost_after_the_seconds_that_the_configuration_gives() -> None:
    assert build_cameras(camera())["top"]._stale == 0.5
    assert build_cameras(camera(stale=2))["top"]._stale == 2.0
    with pytest.raises(SettingsError, match=r"'top': stale=0\.1 s is less than two pictures"):
        build_cameras(camera(stale=0.1))
