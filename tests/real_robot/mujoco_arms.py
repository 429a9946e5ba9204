"""robosuite's models of the arms without their meshes and motors: kinematics only."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree


def bare_model(name: str) -> tuple[ModuleType, Any]:
    """mujoco and its model of "ur5e" or "panda"; angles in radians, which robosuite itself sets elsewhere."""
    from equidiff.sim.backend import load_mujoco, load_robosuite

    mujoco = load_mujoco()
    path = Path(load_robosuite().__file__).parent / "models/assets/robots" / name / "robot.xml"
    root = ElementTree.parse(path).getroot()
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("asset", "actuator", "geom", "sensor", "tendon"):
                parent.remove(child)
    root.insert(0, ElementTree.Element("compiler", angle="radian"))
    return mujoco, mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
