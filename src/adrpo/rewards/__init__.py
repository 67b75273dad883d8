"""Rewards: one protocol, and how a configuration names one. No model library is loaded here."""

from adrpo.rewards.base import Logistic, Reward, RewardResult, RewardTerm, score
from adrpo.rewards.loading import build_reward

__all__ = ["Logistic", "Reward", "RewardResult", "RewardTerm", "build_reward", "score"]
