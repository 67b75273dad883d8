"""The page of ``adrpo play``, made of Gradio's parts; what it shows is a playground's."""

import importlib
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL.Image import Image

from adrpo.errors import AdrpoError
from adrpo.evaluation.playing import STRONGEST, Asked, Panel, Playground
from adrpo.metrics import describe
from adrpo.publishing.markdown import escaped
from adrpo.report.completions import held_out_completions
from adrpo.report.numbers import compact
from adrpo.report.pictures import PIXELATED_SIDE

MOST_STEPS = 100
"""Most steps of the sampler that the page offers."""

EXAMPLES = 40
"""Held-out prompts that the page offers."""

STYLE = """
.picture .image-container > button, .picture .image-frame { width: 100% !important }
.picture img {
  width: 100% !important; height: auto !important; max-height: none !important;
  object-fit: contain !important;
}
.crisp img { image-rendering: pixelated }
"""


def scores_text(panel: Panel) -> str:
    """The scores under a sample, in Markdown: a table, and why one is missing."""
    played = panel.played
    if played is None:
        return escaped(panel.error)
    rows = [
        f"| {escaped(describe(name).label)} | {'–' if math.isnan(value) else compact(value)} |"
        for name, value in played.scores.items()
    ]
    table = "\n".join(["| Score | |", "| --- | ---: |", *rows]) if rows else ""
    lines = [f"\n{escaped(error)}" for error in played.errors]
    if played.sample is None:
        lines.append("\nNo picture: its pixels are not finite.")
    return "\n".join([table, *lines])


def build(playground: Playground) -> Any:
    """The page of ``playground``, as Gradio's Blocks, not served yet.

    Its one function, ``/draw``, takes the prompt, the clip, the strength, the steps, the seed and
    the step of training, and gives the sample and the scores of each panel.
    """
    # Read while Gradio is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    gr: Any = importlib.import_module("gradio")
    pictured = playground.samples == "pictures"
    clips = _clips(playground)
    with gr.Blocks(title="adrpo play", analytics_enabled=False) as page:
        gr.Markdown(f"# {' · '.join(map(escaped, playground.titles[len(playground.bases) :]))}")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                inputs = _controls(gr, playground, clips)
                button = gr.Button("Draw", variant="primary")
            with gr.Column(scale=3, min_width=320), gr.Row():
                outputs = [
                    part for title in playground.titles for part in _panel(gr, title, pictured)
                ]

        def draw(
            prompt: str,
            clip: str | None,
            strength: float,
            steps: float,
            seed: float | None,
            place: float,
        ) -> list[Any]:
            asked = Asked(
                prompt=prompt,
                seed=int(seed or 0),  # None of an emptied field
                strength=float(strength),
                steps=int(steps) if playground.steps else None,
                clip=Path(clip) if clip else None,
            )
            try:
                panels = playground.play(asked, int(place))
            except AdrpoError as error:
                raise gr.Error(str(error), print_exception=False) from None
            return [part for panel in panels for part in _shown(gr, panel)]

        button.click(draw, inputs, outputs, api_name="draw")
        for event in (inputs[0].submit, page.load):
            event(draw, inputs, outputs, api_visibility="private")
    return page


def _controls(gr: Any, playground: Playground, clips: dict[str, Path]) -> list[Any]:
    """The inputs of the page, in the order in which ``/draw`` takes them."""
    chosen = playground.prompts[:EXAMPLES]
    first = chosen[0] if chosen else ""
    words = "Question, and its choices a line each" if playground.hears else "Prompt"
    prompt = gr.Textbox(first, label=words, lines=5 if playground.hears else 2)
    clip = gr.Audio(
        clips.get(first),
        type="filepath",
        sources=["upload", "microphone"],
        label="Clip",
        visible=playground.hears,
    )
    held_out = gr.Dropdown(chosen, value=first or None, label="Held-out prompts")
    held_out.input(
        lambda text: (text, str(clips[text]) if text in clips else None),
        held_out,
        [prompt, clip],
        api_visibility="private",
    )
    strength = gr.Slider(0, STRONGEST, 1, step=0.05, label="Strength of what was trained")
    steps = gr.Slider(
        1,
        max(MOST_STEPS, playground.steps or 1),
        playground.steps or 1,
        step=1,
        label="Steps of the sampler",
        visible=playground.steps is not None,
    )
    seed = gr.Number(0, label="Seed", precision=0)
    places = playground.places
    place = gr.Slider(
        places[0],
        places[-1],
        places[-1],
        step=1,
        label="Step of training",
        info=f"Weights are there of {', '.join(map(str, places))}; a run takes its last one.",
        visible=len(places) > 1,
    )
    return [prompt, clip, strength, steps, seed, place]


def _panel(gr: Any, title: str, pictured: bool) -> list[Any]:
    """A place for a sample and one for its scores."""
    with gr.Column(min_width=220):
        if pictured:
            # As PNG the picture stays what was drawn.
            sample = gr.Image(
                label=title,
                format="png",
                interactive=False,
                elem_classes=["picture"],
                buttons=["download", "fullscreen"],
            )
        else:
            sample = gr.Textbox(label=title, lines=8, interactive=False)
        return [sample, gr.Markdown()]


def _shown(gr: Any, panel: Panel) -> list[Any]:
    sample = panel.played.sample if panel.played is not None else None
    more: dict[str, Any] = {}
    if isinstance(sample, Image):
        crisp = ["crisp"] if max(sample.size) <= PIXELATED_SIDE else []
        more["elem_classes"] = ["picture", *crisp]
    return [gr.update(value=sample, label=panel.title, **more), scores_text(panel)]


def _clips(playground: Playground) -> dict[str, Path]:
    """The clips of held-out questions that the runs show, by the questions."""
    found: dict[str, Path] = {}
    for run in playground.runs if playground.hears else ():
        samples = run.folder / "samples"
        for shown in held_out_completions(samples):
            if shown.clips and shown.clips[0].uri:
                found.setdefault(shown.prompt, (samples / shown.clips[0].name).resolve())
    return found


def serve(
    playground: Playground, *, host: str, port: int | None, say: Callable[[str], None]
) -> None:
    """Serve the page of ``playground`` until the process is told to end.

    Raises AdrpoError where the port can't be had.
    """
    page = build(playground)
    gr: Any = importlib.import_module("gradio")
    folders = [str((run.folder / "samples").resolve()) for run in playground.runs]
    plain = ("system-ui", "sans-serif")
    try:
        # Fonts of the reader's machine: nothing is fetched from anywhere else.
        _, url, _ = page.launch(
            server_name=f"[{host}]" if ":" in host else host,  # as a URL has an IPv6 address
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=["api"],
            allowed_paths=folders if playground.hears else None,
            theme=gr.themes.Base(font=plain, font_mono=("ui-monospace", "monospace")),
            css=STYLE,
        )
    except OSError as error:
        raise AdrpoError(
            f"play: expected a free port on {host}; {error}; name another by --port"
        ) from None
    try:
        say(f"Play: {url}  (Ctrl-C ends it)")
        threading.Event().wait()
    finally:
        page.close(verbose=False)
