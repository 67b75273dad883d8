"""Training that goes on with an adapter of others: what it begins with, and what holds it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adrpo.audio.run import AudioRun
from adrpo.cli.domains import door_of
from adrpo.config import AdapterSection, FlowModelSection
from adrpo.errors import AdrpoError
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.llm.run import LanguageRun
from adrpo.report import write_report
from adrpo.report.result import result_lines
from adrpo.runs.directory import RunDirectory
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_runs import darkness, embedded_config, perturb

pytestmark = AUDIO_MARKS


def saved(folder: Path, *, alpha: float = 32.0, rank: int = 4, **section: Any) -> Path:
    """An adapter of the embedded model that was trained elsewhere."""
    policy = load_policy(FlowModelSection())
    policy.add_adapter(AdapterSection(rank=rank, alpha=alpha, **section))
    perturb(policy)  # type: ignore[arg-type]
    policy.save_adapter(folder)
    return folder


def velocity(policy: Any) -> Tensor:
    x_t, t = initial_noise(2, policy.latent_shape, 0), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        return policy.velocity(x_t, t, policy.encode(["a red circle", "two blue stars"]))


@pytest.mark.parametrize("form", ["folder", "file"])
def test_the_policy_begins_as_the_file_and_the_reference_is_that(form: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "sft")
    source = source / WEIGHTS_NAME if form == "file" else source
    theirs, base = load_policy(FlowModelSection()), velocity(load_policy(FlowModelSection()))
    theirs.load_adapter(source)
    expected = velocity(theirs)
    assert (expected - base).abs().max() > 1e-3
    for reference, held in (("start", expected), ("base", base)):
        policy = load_policy(FlowModelSection())
        # Another alpha than the file's: the update is the same.
        section = AdapterSection(rank=4, alpha=8.0, start_from=str(source), reference=reference)
        policy.add_adapter(section)
        torch.testing.assert_close(velocity(policy), expected, rtol=0, atol=1e-5)
        perturb(policy, seed=2)  # type: ignore[arg-type]
        moved = velocity(policy)
        with policy.reference():
            torch.testing.assert_close(velocity(policy), held, rtol=0, atol=1e-5)
            with policy.reference():
                torch.testing.assert_close(velocity(policy), held, rtol=0, atol=1e-5)
        assert torch.equal(velocity(policy), moved)
        assert (moved - expected).abs().max() > 1e-3
        assert all(value.requires_grad for value in policy.adapter_parameters())


def test_an_adapter_of_another_form_is_refused_with_the_key(tmp_path: Path) -> None:
    source = saved(tmp_path / "sft")
    fewer = saved(tmp_path / "fewer", target_modules=("to_q",))
    for section, said in (
        ({"start_from": str(source), "rank": 8}, r"set adapter\.rank=4"),
        ({"start_from": str(fewer), "rank": 4}, r"adapter\.target_modules"),
        ({"start_from": str(tmp_path / "gone")}, r"adapter\.start_from: .* which is not there"),
    ):
        with pytest.raises(AdrpoError, match=said):
            load_policy(FlowModelSection()).add_adapter(AdapterSection(**section))


@pytest.mark.parametrize("reference", ["start", "base"])
def test_a_run_of_images_goes_on_with_it(reference: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "sft")
    section = {"rank": 4, "start_from": str(source), "reference": reference}
    config = embedded_config(
        adapter=section, training={"steps": 2, "learning_rate": 0.01}, checkpoint={"every": 1}
    )
    run = FlowTrainer(config, reward=darkness).train(tmp_path / "run", progress=False)
    rows = RunDirectory.open(run).read_evaluations("unseen")
    # The policy at step 0 is its own reference, and the bare base is not.
    assert (rows[0]["divergence"] == 0) == (reference == "start")
    assert rows[-1]["divergence"] > 0
    # Page and screen say what held it.
    held = {"start": "the policy at step 0", "base": "the bare base"}[reference]
    said = f"Starts from {source}; its reference is {held}"
    assert said in write_report(run).read_text(encoding="utf-8")
    assert any(said in line for line in result_lines(run))
    # It is measured again from what the run keeps, and the adapter in final/ is whole.
    shutil.rmtree(source)
    own = ["reward=[{name: support.tiny_runs:darkness}]"]
    evaluate_target(Target.resolve(str(run), door_of, overrides=own), tmp_path / "again")
    again = RunDirectory.open(tmp_path / "again").read_evaluations()
    for ours, theirs in zip(again, (rows[0], rows[-1]), strict=True):
        assert ours["divergence"] == pytest.approx(theirs["divergence"], rel=1e-4, abs=1e-9)
    bare = load_policy(FlowModelSection())
    bare.load_adapter(run / "final")
    assert (velocity(bare) - velocity(load_policy(FlowModelSection()))).abs().max() > 1e-3


def test_a_run_is_not_resumed_with_another_beginning(tmp_path: Path) -> None:
    source = saved(tmp_path / "sft")
    section = {"rank": 4, "start_from": str(source)}
    longer = embedded_config(adapter=section, training={"steps": 2})
    short = embedded_config(adapter=section, training={"steps": 1})
    run = FlowTrainer(short, reward=darkness).train(tmp_path / "run", progress=False)
    values = load_file(source / WEIGHTS_NAME)
    save_file({name: 2 * value for name, value in values.items()}, source / WEIGHTS_NAME)
    with pytest.raises(AdrpoError, match=r"adapter\.start_from: expected the adapter that the run"):
        FlowTrainer(longer, reward=darkness).train(run, resume=True, progress=False)
    assert (run / "final").is_dir()


@pytest.mark.parametrize("reference", ["start", "base"])
def test_a_language_models_run_goes_on_with_it(reference: str, tmp_path: Path) -> None:
    material = write_material(tmp_path / "material")
    lora = {"rank": 4, "alpha": 8.0}
    rate = {"steps": 2, "learning_rate": 0.02}
    first = tiny_language_config(material, adapter=lora, training=rate)
    source = LanguageRun(first).train(tmp_path / "sft", progress=False) / "final"
    section = {**lora, "start_from": str(source), "reference": reference}
    config = tiny_language_config(material, adapter=section, training=rate)
    run = LanguageRun(config).train(tmp_path / "run", progress=False)
    ends = RunDirectory.open(tmp_path / "sft").read_evaluations("unseen")
    rows = RunDirectory.open(run).read_evaluations("unseen")
    # It draws at step 0 what the first run drew at its end.
    assert rows[0]["reward"] == ends[-1]["reward"]
    assert rows[0]["kl"] == (0 if reference == "start" else ends[-1]["kl"])
    assert rows[-1]["kl"] > 0
    evaluate_target(Target.resolve(str(run), door_of), tmp_path / "again")
    again = RunDirectory.open(tmp_path / "again").read_evaluations()
    assert again == [row | {"target": str(run)} for row in (rows[0], rows[-1])]
    # Resumed it is the run that never stopped, and not with another beginning.
    final = load_file(run / "final" / "adapter_model.safetensors")
    shutil.rmtree(run / "final")
    LanguageRun(config).train(run, resume=True, progress=False)
    resumed = load_file(run / "final" / "adapter_model.safetensors")
    assert all(resumed[name].equal(value) for name, value in final.items())
    file = source / "adapter_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(file).items()}, file)
    (source / "manifest.json").unlink()  # it is an adapter of others from here on
    shutil.rmtree(run / "final")
    with pytest.raises(AdrpoError, match=r"adapter\.start_from: expected the adapter that the run"):
        LanguageRun(config).train(run, resume=True, progress=False)


def test_a_model_that_hears_goes_on_with_it(tmp_path: Path) -> None:
    model = write_thinker(tmp_path / "model")
    lora = {"rank": 4, "alpha": 8.0}
    first = tiny_audio_config(model, adapter=lora, training={"steps": 2})
    source = AudioRun(first).train(tmp_path / "sft", progress=False) / "final"
    section = {**lora, "start_from": str(source)}
    config = tiny_audio_config(model, adapter=section, training={"steps": 2})
    run = AudioRun(config).train(tmp_path / "run", progress=False)
    ends = RunDirectory.open(tmp_path / "sft").read_evaluations("unseen")
    rows = RunDirectory.open(run).read_evaluations("unseen")
    assert rows[0]["reward"] == ends[-1]["reward"]
    assert rows[0]["kl"] == 0 < ends[-1]["kl"]
    assert rows[-1]["kl"] > 0
