"""Denoisers: what the diffusion model learns, on the normalised chunk of action features."""

from equidiff.denoisers.base import Denoiser
from equidiff.denoisers.fibrewise_unet import FibrewiseUNet
from equidiff.denoisers.group_mlp import GroupMLP

__all__ = ["Denoiser", "FibrewiseUNet", "GroupMLP"]
