"""Simulation: the only part that imports robosuite, robomimic and mimicgen. Install with the extra `sim`."""
