"""Drivers of arms and cameras; each imports its library when it connects."""
