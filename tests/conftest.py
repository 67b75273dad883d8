"""Settings of the whole suite; the shape checks must stand before adrpo is first imported."""

import os
import sys

from jaxtyping import install_import_hook

# Nothing in the suite may reach a model hub: what it needs it builds or the package embeds.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CHECKED = ("adrpo.core", "adrpo.flow.mixture", "adrpo.flow.path", "adrpo.flow.samplers")

early = [name for name in CHECKED if name in sys.modules]
if early:
    raise RuntimeError(f"imported before the shape checks were installed: {early}")
install_import_hook(CHECKED, "beartype.beartype")
