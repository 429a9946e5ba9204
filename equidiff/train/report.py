"""What a run tells the user: before it begins, when it goes on in another way, when it fails and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TrainResult", "how_to_go_on", "other_length"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: after `step` of `total` steps; `signal` stopped it if not None."""

    step: int
    total: int
    signal: int | None
    checkpoint: Path
    metrics: Mapping[str, float]

    @property
    def finished(self) -> bool:
        """All steps are done and checkpoints/final is written."""
        return self.step >= self.total

    def sentence(self) -> str:
        """What to tell the user."""
        if self.finished:
            loss = "".join(
                f", {name} {self.metrics[name]:.4f}" for name in ("train/loss", "valid/loss") if name in self.metrics
            )
            return f"finished {self.step} steps{loss}: {self.checkpoint}"
        return f"stopped after step {self.step} of {self.total}, saved in {self.checkpoint}; go on with resume=true"


def other_length(schedule: str, step: int, before: int, now: int) -> str:
    """The line about a run that goes on after `step` with the schedule of another number of steps."""
    return (
        f"note    the first {step} steps followed the {schedule} schedule of {before} steps, the rest follows that of "
        f"{now}: not the same run as {now} steps from the start (a constant optim.schedule can be prolonged exactly)"
    )


def how_to_go_on(last: Path, saved: int) -> str:
    """What is left of a run that failed, of which step `saved` is in `last`; 0: none."""
    if not saved:
        return "Nothing had been saved yet (trainer.save_every): start again"
    return f"{last} holds step {saved}: go on from there with resume=true run_dir={last.parent.parent}"
