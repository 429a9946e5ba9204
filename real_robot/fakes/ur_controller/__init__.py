"""A Universal Robots controller in software: speaks RTDE, script upload, dashboard and the Robotiq URCap's socket.

It is protocol-true towards the unmodified ur_rtde client and moves the UR5e model that robosuite ships; it is not
safety-true: forces, collisions and the real controller's limits are not modelled. Run by itself:

    python -m real_robot.fakes.ur_controller address=127.0.0.2
"""

from real_robot.fakes.ur_controller.handle import FakeUR

__all__ = ["FakeUR"]
