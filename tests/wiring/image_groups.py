"""What the losses of CRD and DGPO, which compare the samples of a prompt, ask of the network."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wiring.image_oracle import Array, Expected, fits, rows, shaped
from wiring.image_steps import Step, WatchedTrainer, image_config
from wiring.table import Seen, Table

MOVING = {"anchor": "ema", "anchor_decay": 0.3, "advantage_gamma": 0.4, "advantage_scale": "batch"}
LAG = {"decay": 0.2, "decay_growth": 0.3, "decay_flat": 1, "decay_most": 0.6}
CHANGED: dict[str, dict[str, Any]] = {
    "crd": {
        **MOVING, "beta_0": 0.6, "anchor_guidance_scale": 2.0, "advantage_clip": 0.7,
        "implicit_scale": 0.6, "error_weighting": False, "centering": "softmax",
        "centering_temperature": 0.4, "old": LAG,
    },
    "dgpo": {**MOVING, "beta": 300.0, "advantage_clip": 0.7},
}  # fmt: skip
"""Method -> its keys and values."""


class ExpectedOfGroups(Expected):
    """dL/dv of steps 1, 2, ... of CRD or DGPO, and the models that they compare with."""

    def __init__(self, watched: WatchedTrainer, section: Any) -> None:
        super().__init__(watched, section)
        self.old = watched.start
        self.updates = 0

    def gradient(self, step: Step) -> Tensor | None:
        section, bound = self.section, self.section.advantage_clip
        a = shaped(section, step.rewards.numpy(), self.groups).clip(-bound, bound)
        sample = np.arange(len(a)).repeat(self.points)
        if len(sample) != len(step.t):
            return None
        a = a[sample]
        # The rows of a prompt at the same one of their points.
        place = self.groups[sample] * self.points + np.arange(len(sample)) % self.points
        left = rows(1 - step.t.double().numpy(), step.x_t)
        u = (step.x_1[torch.as_tensor(sample)].double() - step.x_t.double()) / left
        v = torch.cat([call.v.detach() for call in step.policy_calls]).double()
        slope = 2 / v[0].numel() * (v - u)
        method = {"crd": self._crd, "dgpo": self._dgpo}[section.method]
        return method(step, a, place, v, u, slope) / len(sample)

    def _dgpo(self, step: Step, a: Array, place: Array, v: Tensor, u: Tensor, slope: Tensor):
        gap = error(v, u) - error(self._at(step, self._anchor(), self.guidance_scale), u)
        preferred = 1 / (1 + np.exp(-self.section.beta * means(a * gap, place, np.ones_like(a))))
        return rows(preferred * a, v) * slope

    def _crd(self, step: Step, a: Array, place: Array, v: Tensor, u: Tensor, slope: Tensor):
        section, b = self.section, self.section.implicit_scale
        v_old = self._at(step, self.old, self.guidance_scale)
        sizes = [np.ones_like(a)] * 2
        if section.error_weighting:
            sizes = [(each - u).abs().flatten(1).mean(1).numpy() for each in (v, v_old)]
        implicit = error(v_old, u) / sizes[1] - error(v, u) / sizes[0]
        r = (a / section.advantage_clip + 1) / 2
        tau = section.centering_temperature
        slopes = [0] if section.centering == "uniform" else [1 / tau, -1 / tau]
        distances = []
        for each in slopes:
            share = np.exp(each * r)
            center = b * means(implicit, place, share) - means(r, place, share)
            distances.append(b * implicit - r - center)
        # c / b of the loss, 2 of its square and b of r_theta, which falls with v's error.
        factor = -2 * section.advantage_clip * np.mean(distances, axis=0) / sizes[0]
        least, most = 1e-4, section.beta_0
        beta = least + (most - least) * (a.clip(-5, 5) / 5 + 1) / 2
        v_ref = self._at(step, self._anchor(), section.anchor_guidance_scale)
        return rows(factor, v) * slope + rows(beta, v) * 2 / v[0].numel() * (v - v_ref)

    def follow(self, step: Step) -> None:
        super().follow(step)
        if self.section.method == "crd":
            lag = self.section.old
            grown = lag.decay_growth * max(self.updates - lag.decay_flat, 0)
            decay = min(lag.decay + grown, lag.decay_most)
            after = step.updates[-1].after
            pairs = zip(self.old, after, strict=True)
            self.old = [decay * old + (1 - decay) * new for old, new in pairs]
            self.updates += 1

    def _anchor(self) -> list[Tensor] | None:
        return None if self.section.anchor == "base" else self.average

    def _at(self, step: Step, adapter: list[Tensor] | None, scale: float) -> Tensor:
        calls = step.policy_calls
        found = [self.watched.velocity(call, adapter, guidance_scale=scale) for call in calls]
        return torch.cat(found).double()


def error(v: Tensor, u: Tensor) -> Array:
    """|v - u|^2 of each row, a mean over its elements."""
    return (v - u).square().flatten(1).mean(1).numpy()


def means(values: Array, place: Array, share: Array) -> Array:
    """The mean of ``values`` with the weights ``share`` over the rows of each row's place."""
    found = [np.average(values[place == own], weights=share[place == own]) for own in place]
    return np.array(found)


@cache
def group_steps(method: str) -> tuple[WatchedTrainer, list[Step]]:
    """Steps of ``method`` with all of its keys changed, which fit its loss; with the fifth the
    old policy of CRD no longer lags by more."""
    config = image_config(
        algorithm={"method": method, **CHANGED[method]}, training={"learning_rate": 0.01}
    )
    watched = WatchedTrainer(config)
    steps = [watched.step(number) for number in range(1, 6 if method == "crd" else 3)]
    assert group_fits(watched, config.algorithm, steps)
    return watched, steps


def group_fits(watched: WatchedTrainer, section: Any, steps: list[Step]) -> bool:
    """True where the gradients of ``steps`` are those that ``section`` asks for."""
    return fits(watched, section, steps, expected=ExpectedOfGroups)


def follows_in_groups(key: str, value: Any) -> None:
    """The effect of a key: with its default the gradients would be others."""
    method, _, name = key.removeprefix("algorithm[").partition("].")
    outer, _, inner = name.partition(".")
    watched, steps = group_steps(method)
    section = watched.config.algorithm
    if outer == "method":
        assert section.method == value
        return
    default = type(section).model_fields[outer].get_default(call_default_factory=True)
    if inner:
        own = getattr(section, outer)
        default = own.model_copy(update={inner: type(own).model_fields[inner].get_default()})
    assert not group_fits(watched, section.model_copy(update={outer: default}), steps)


def shares_its_points(key: str, value: Any) -> None:
    """DGPO uses the samples of a prompt at the same points (t, x_0)."""
    follows_in_groups(key, value)
    _, steps = group_steps("dgpo")
    for step in steps:
        t = step.t.view(2, 3, 2)
        assert torch.equal(t, t[:, :1].expand_as(t)) and not torch.equal(t[0], t[1])
        x_1 = step.x_1.repeat_interleave(2, 0)
        shape = (-1, *(1,) * (x_1.ndim - 1))
        x_0 = (step.x_t - step.t.view(shape) * x_1) / (1 - step.t.view(shape))
        x_0 = x_0.view(2, 3, 2, *x_1.shape[1:])
        # Divided by 1 - t, which is 0.01 at least here, of numbers of float32.
        assert (x_0 - x_0[:, :1]).abs().max() < 1e-3


GROUPED: Table = {
    **{
        f"algorithm[{method}].{name}": Seen(value, follows_in_groups)
        for method, keys in CHANGED.items()
        for name, value in keys.items()
        if name != "old"
    },
    **{f"algorithm[crd].old.{key}": Seen(value, follows_in_groups) for key, value in LAG.items()},
    "algorithm[crd].method": Seen("crd", follows_in_groups),
    "algorithm[dgpo].method": Seen("dgpo", shares_its_points),
}
"""The keys of CRD and DGPO."""
