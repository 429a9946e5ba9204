"""Building blocks that know representations, not fields."""

from equidiff.nn.embedding import StepEmbedding
from equidiff.nn.group import GroupLayerNorm, GroupLinear, Lift, Project

__all__ = ["GroupLayerNorm", "GroupLinear", "Lift", "Project", "StepEmbedding"]
