"""Rewards: one protocol, and how a configuration names one. No model library is loaded here."""

from adrpo.rewards.base import Reward, RewardResult, RewardTerm, score
from adrpo.rewards.loading import build_reward

__all__ = ["Reward", "RewardResult", "RewardTerm", "build_reward", "score"]
