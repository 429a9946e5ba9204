"""Denoisers: what the diffusion model learns, on the normalised chunk of action features."""

from equidiff.denoisers.base import Denoiser
from equidiff.denoisers.fibrewise_unet import FibrewiseUNet
from equidiff.denoisers.group_mlp import GroupMLP
from equidiff.denoisers.so2_mlp import SO2MLP
from equidiff.denoisers.soft import SoftEquivariant

__all__ = ["SO2MLP", "Denoiser", "FibrewiseUNet", "GroupMLP", "SoftEquivariant"]
