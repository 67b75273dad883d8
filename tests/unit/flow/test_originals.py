"""Originals, the pictures that prompts ask to be edited: how they are read, known and sent."""

from pathlib import Path
from threading import Thread
from typing import Any

from diffusers.utils import load_image
from PIL import ExifTags, Image

from adrpo.flow.originals import checksum, read_original, size_of_original
from adrpo.rewards.remote import HttpReward
from adrpo.rewards.server import make_server
from support.family import original_of


def test_pictures_of_any_form_are_read_alike(tmp_path: Path) -> None:
    plain = original_of("one")
    plain.save(tmp_path / "plain.png")
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 270 degrees to the left
    turned.save(tmp_path / "turned.png", exif=exif)
    cell = {"bytes": (tmp_path / "turned.png").read_bytes(), "path": None}
    with Image.open(tmp_path / "turned.png") as image:
        image.load()
    for value in (str(tmp_path / "plain.png"), str(tmp_path / "turned.png"), cell, image):
        assert read_original(value).tobytes() == plain.tobytes()
        assert size_of_original(value) == plain.size
        assert load_image(value if isinstance(value, str) else image).tobytes() == plain.tobytes()
    assert read_original(plain.convert("LA")).mode == "RGB"
    values = [str(tmp_path / "plain.png"), str(tmp_path / "turned.png"), cell, plain]
    assert len({checksum(value) for value in values}) == 3  # the cell is the turned file


def test_a_reward_on_another_machine_is_sent_the_pictures() -> None:
    def alike(prompts: list[str], images: list[Any], image: list[Any], **_: Any) -> list[Any]:
        return [
            None if own is None else float(own.tobytes() == picture.tobytes())
            for own, picture in zip(image, images, strict=True)
        ]

    pictures = [original_of(text) for text in ("one", "two", "three")]
    with make_server(alike, port=0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        reward = HttpReward(url, columns=("image", "note"), batch_size=2)
        images, own = pictures, [pictures[0], None, pictures[1]]
        scores = reward(["a", "b", "c"], images=images, image=own, note=["x", "y", "z"])
        server.shutdown()
    assert scores == [1.0, None, 0.0]
