"""How far a policy is from turning with the scene: every stage measured over the angle, judged and drawn."""

from equidiff.equivariance.measure import Judgement, measure
from equidiff.equivariance.report import Report, Stage
from equidiff.equivariance.scenes import random_observation
from equidiff.equivariance.views import View, views

__all__ = ["Judgement", "Report", "Stage", "View", "measure", "random_observation", "views"]
