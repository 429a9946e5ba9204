"""Encoders: observations to regular features, one file per kind of observation."""

from equidiff.encoders.base import ArrayEncoder
from equidiff.encoders.observation import ObservationEncoder
from equidiff.encoders.state import StateEncoder

__all__ = ["ArrayEncoder", "ObservationEncoder", "StateEncoder"]
