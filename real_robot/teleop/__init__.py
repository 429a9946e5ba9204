"""Teleoperation, and recording of demonstrations that training reads as they are.

Nothing is imported here: `world` is also the loop's, which runs without HDF5.
"""
