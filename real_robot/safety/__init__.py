"""The safety gate: the last thing between a policy's targets and the arm's driver."""

from real_robot.safety.admission import SafetyFault
from real_robot.safety.gate import Decision, GateError, SafetyGate
from real_robot.safety.limits import Bound, Box, Cone, LimitsError, RateLimits, SafetyLimits

__all__ = [
    "Bound",
    "Box",
    "Cone",
    "Decision",
    "GateError",
    "LimitsError",
    "RateLimits",
    "SafetyFault",
    "SafetyGate",
    "SafetyLimits",
]
