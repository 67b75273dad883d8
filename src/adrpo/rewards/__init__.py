"""Rewards: one protocol, and how a configuration names one. No model library is loaded here."""

from adrpo.rewards.base import Logistic, Reward, RewardResult, RewardTerm
from adrpo.rewards.loading import build_reward
from adrpo.rewards.scoring import score

__all__ = ["Logistic", "Reward", "RewardResult", "RewardTerm", "build_reward", "score"]
