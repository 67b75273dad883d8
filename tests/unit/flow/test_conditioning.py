"""The records of what a model reads: of prompts alone, and of a set of prompts."""

import copy

import pytest
import torch

from adrpo.data import Prompt
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.prompt_set import PromptSet


def record(rows: int, tokens: int) -> Conditioning:
    return Conditioning(
        context=torch.arange(1.0, 1 + rows * tokens * 2).reshape(rows, tokens, 2),
        mask=torch.ones(rows, tokens, dtype=torch.bool),
    )


def test_rows_are_selected_in_every_tensor():
    conditioning = record(3, 2)
    chosen = conditioning.select(torch.tensor([2, 0, 2]))
    assert len(chosen) == 3
    assert torch.equal(chosen.context[1], conditioning.context[0])
    assert torch.equal(chosen.context[0], chosen.context[2])
    assert chosen.mask.shape == (3, 2)


def test_shorter_prompts_are_padded_behind_a_mask():
    long, short = record(1, 4), record(2, 1)
    both = Conditioning.cat([short, long])
    assert torch.equal(both.mask.sum(1), torch.tensor([1, 1, 4]))
    assert torch.equal(both.context[2], long.context[0])
    assert torch.equal(both.context[:2, :1], short.context)
    assert not both.context[:2, 1:].any()


def test_without_a_mask_padding_is_refused():
    long, short = (Conditioning(context=torch.ones(1, tokens, 2)) for tokens in (3, 2))
    with pytest.raises(ValueError, match=r"without a mask, received \[2, 3\]"):
        Conditioning.cat([short, long])


def test_every_tensor_moves():
    moved = record(2, 3).to(torch.device("meta"))
    assert {moved.context.device.type, moved.mask.device.type} == {"meta"}


def test_it_is_frozen_and_names_what_it_holds():
    conditioning = record(1, 1)
    with pytest.raises(AttributeError, match="frozen"):
        conditioning.context = torch.zeros(1)
    with pytest.raises(AttributeError, match=r"one of context, mask; received 'pooled'"):
        conditioning.pooled  # noqa: B018, the access is the test
    assert torch.equal(copy.deepcopy(conditioning).context, conditioning.context)


@pytest.mark.parametrize("tensors", [{}, {"a": torch.ones(2), "b": torch.ones(3)}])
def test_tensors_of_other_numbers_of_rows_are_refused(tensors: dict[str, torch.Tensor]):
    with pytest.raises(ValueError, match="one number of rows"):
        Conditioning(**tensors)


def test_a_prompt_set_has_a_row_for_each_prompt() -> None:
    prompts = [Prompt("a cat"), Prompt("a dog"), Prompt("a cat")]
    rows = Conditioning(pooled=torch.arange(6.0).view(3, 2))
    shapes = [(4, 8, 8), (4, 8, 12), (4, 8, 8)]
    found = PromptSet(prompts, rows, shapes)
    assert found.shapes == tuple(shapes)
    assert list(found) == prompts and found[1] == prompts[1] and list(found[1:]) == prompts[1:]
    assert torch.equal(found.conditioning.pooled, rows.pooled)
    with pytest.raises(ValueError, match="a row for each of 2 prompts, received 3"):
        PromptSet(prompts[:2], rows, shapes[:2])
