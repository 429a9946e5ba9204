"""From a checkpoint to a physical arm: contracts, drivers, the closed loop, its safety gate and its faults.

Units are SI, quaternions xyzw, poses in the frame of the robot's base unless a name says otherwise, and every time is
in seconds of one clock (`real_robot.clock`).
"""
