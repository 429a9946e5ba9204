"""The closed loop: observations aligned by time, plans scheduled, faults answered, commands through the gate."""
