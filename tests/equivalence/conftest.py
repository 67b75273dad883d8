import pytest
import torch

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.loading import load_policy


@pytest.fixture
def policy() -> StableDiffusion3Policy:
    """The embedded model with a new adapter."""
    policy = load_policy(FlowModelSection())
    torch.manual_seed(0)
    policy.add_adapter(AdapterSection())
    return policy
