"""The methods of online, anchored regression: one small file each, one trainer for all."""

import importlib
from collections.abc import Iterable
from typing import get_args

from adrpo.config.algorithm_keys import Weighed
from adrpo.config.algorithms import AlgorithmSection
from adrpo.config.fields import sections_in
from adrpo.config.shared import MethodSection
from adrpo.errors import AdrpoError
from adrpo.flow.methods.base import Method, Rows, Terms, Weights


def build_method(settings: MethodSection) -> Method:
    """The method of a configuration's section ``algorithm``.

    Raises AdrpoError for a method that is no anchored regression.
    """
    if not isinstance(settings, Weighed):
        forms = sections_in(AlgorithmSection)
        raise another_method(settings, [form for form in forms if issubclass(form, Weighed)])
    module, _, name = settings.weighed_by.partition(":")
    return getattr(importlib.import_module(f"adrpo.flow.methods.{module}"), name)(settings)


def another_method(received: MethodSection, expected: Iterable[type[MethodSection]]) -> AdrpoError:
    """The error of a trainer that is given the section of a method that it does not train."""
    names = [get_args(form.model_fields["method"].annotation)[0] for form in expected]
    return AdrpoError(
        f"algorithm.method: expected {' or '.join(names)} for this trainer; received "
        f"{received.method}; adrpo.flow.build_trainer chooses the trainer by the method"
    )


__all__ = ["Method", "Rows", "Terms", "Weights", "another_method", "build_method"]
