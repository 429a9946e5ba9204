"""Weights trained with the published code (Wang et al. 2024): from safetensors into a policy of ours."""

from equidiff.published.convert import convert_policy, read_state
from equidiff.published.order import ActionOrder, PublishedError, action_order, observation_order

__all__ = ["ActionOrder", "PublishedError", "action_order", "convert_policy", "observation_order", "read_state"]
