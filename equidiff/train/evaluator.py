"""What connects training to anything that can judge a policy, e.g. rollouts in a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Evaluator"]


class Evaluator(Protocol):
    """Judges a policy in eval mode (with the EMA weights) after `step` optimiser steps; returns named numbers."""

    def __call__(self, policy: Any, step: int) -> Mapping[str, float]:
        """E.g. {"success": 0.94}; logged as eval/success."""
