"""Training: the loop, its settings, its state and its logs."""

from equidiff.train.evaluator import Evaluator
from equidiff.train.report import TrainResult
from equidiff.train.settings import EmaConfig, OptimConfig, TrainerConfig, TrainError
from equidiff.train.trainer import Trainer

__all__ = ["EmaConfig", "Evaluator", "OptimConfig", "TrainError", "TrainResult", "Trainer", "TrainerConfig"]
