"""Teleoperation, and recording of demonstrations that training reads as they are."""
