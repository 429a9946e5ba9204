"""Which numbers the networks are computed in: float32, or half as many bits where the processor is built for it.

Weights, optimiser, EMA, data and losses are float32 always; only the matrix products and convolutions of
encoders and denoisers are computed in bf16 or fp16 (torch's autocast). Checkpoints hold float32.
"""

from __future__ import annotations

from pathlib import Path

import torch

from equidiff.train.settings import TrainError

__all__ = ["choose_precision", "cpu_flags", "gpu_computes_bf16"]


def choose_precision(asked: str, device: torch.device) -> str:
    """What `trainer.mixed_precision` means on this device: "no", "bf16" or "fp16".

    auto is bf16 on a CUDA GPU that computes in it, "no" elsewhere. Raises TrainError where what was asked for is
    emulated, and so many times slower, or not there.
    """
    if asked == "auto":
        return "bf16" if device.type == "cuda" and gpu_computes_bf16() else "no"
    if asked == "bf16" and device.type == "cpu" and "amx_bf16" not in cpu_flags():
        raise TrainError(
            "trainer.mixed_precision=bf16 on a CPU without amx_bf16 is far slower than float32; "
            "use trainer.mixed_precision=no"
        )
    if asked == "bf16" and device.type == "cuda" and not gpu_computes_bf16():
        raise TrainError(
            "trainer.mixed_precision=bf16 on a GPU that only emulates it is slower than float32; "
            "use trainer.mixed_precision=no or fp16"
        )
    if asked == "fp16" and device.type == "cpu":
        raise TrainError(
            "trainer.mixed_precision=fp16 needs a GPU, on a CPU training in it is not supported; "
            "use trainer.mixed_precision=no"
        )
    return asked


def gpu_computes_bf16() -> bool:
    """Whether the current CUDA GPU computes in bf16 itself (Ampere and later)."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """Features of this CPU as Linux lists them; empty elsewhere."""
    file = Path(path)
    if not file.is_file():
        return frozenset()
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
