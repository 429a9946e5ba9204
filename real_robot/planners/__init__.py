"""Planners in this process, in another one, and on another machine; all call the policy by `run_policy`."""

from real_robot.planners.late import LatePlanner
from real_robot.planners.local import LocalPlanner
from real_robot.planners.process import ProcessPlanner
from real_robot.planners.remote import RemotePlanner
from real_robot.planners.run import check_request, run_policy, warm_up

__all__ = ["LatePlanner", "LocalPlanner", "ProcessPlanner", "RemotePlanner", "check_request", "run_policy", "warm_up"]
