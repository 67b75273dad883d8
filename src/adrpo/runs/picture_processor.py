"""Processors of vision-language models without their part for videos, which needs torchvision."""

from typing import Any


def of_pictures(
    kind: Any, image_processor: Any, tokenizer: Any, template: str | None = None
) -> Any:
    """A processor of words and pictures, of transformers' class ``kind``, which also has a part for
    videos.

    Args:
        kind: Qwen2VLProcessor and its kin.
        image_processor: of the model.
        tokenizer: of the model.
        template: its chat template.
    """

    class OfPictures(kind):
        def __init__(self, image_processor: Any, tokenizer: Any, **options: Any) -> None:
            super().__init__(image_processor, tokenizer, **options)

    # What is saved of it names the class that loads it again.
    OfPictures.__name__ = OfPictures.__qualname__ = kind.__name__
    OfPictures.__module__ = kind.__module__
    return OfPictures(image_processor, tokenizer, chat_template=template)
