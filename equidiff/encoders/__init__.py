"""Encoders: observations to regular features, one file per kind of observation."""

from equidiff.encoders.observation import ObservationEncoder
from equidiff.encoders.state import StateEncoder

__all__ = ["ObservationEncoder", "StateEncoder"]
