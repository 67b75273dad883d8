import pytest
import torch

from adrpo.config import AdapterConfig, ModelConfig
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.protocol import StableDiffusion3Policy


@pytest.fixture
def policy() -> StableDiffusion3Policy:
    """The embedded model with a new adapter."""
    policy = load_policy(ModelConfig())
    torch.manual_seed(0)
    policy.add_adapter(AdapterConfig())
    return policy
