"""Building blocks that know representations, not fields."""

from equidiff.nn.counts import check_counts
from equidiff.nn.crop import Crop
from equidiff.nn.embedding import StepEmbedding
from equidiff.nn.geometry import Conv, Pool, check_kernel, check_size, final_size, through
from equidiff.nn.group import GroupLayerNorm, GroupLinear, Lift, Project
from equidiff.nn.so2 import Nonlinearity, Sampling, SO2Activation, SO2Linear, SO2Norm, band, modulate
from equidiff.nn.steerable import SteerableConv

__all__ = [
    "Conv",
    "Crop",
    "GroupLayerNorm",
    "GroupLinear",
    "Lift",
    "Nonlinearity",
    "Pool",
    "Project",
    "SO2Activation",
    "SO2Linear",
    "SO2Norm",
    "Sampling",
    "SteerableConv",
    "StepEmbedding",
    "band",
    "check_counts",
    "check_kernel",
    "check_size",
    "final_size",
    "modulate",
    "through",
]
