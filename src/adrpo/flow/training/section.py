"""The section ``algorithm`` of a configuration, as the trainer of its method reads it."""

from typing import TypeVar

from adrpo.config import FlowConfig
from adrpo.config.shared import MethodSection
from adrpo.flow.methods import another_method

Form = TypeVar("Form", bound=MethodSection)


def section_of(config: FlowConfig, form: type[Form]) -> Form:
    """``config.algorithm``, known to be a ``form``.

    Raises AdrpoError where it is the section of another method.
    """
    if not isinstance(config.algorithm, form):
        raise another_method(config.algorithm, [form])
    return config.algorithm
