"""What a report says to look at: the symptoms that the run told, and no others."""

import json
from pathlib import Path

from adrpo.report import write_report
from support.fabricated_run import fabricate


def test_a_healthy_run_has_nothing_to_look_at(tmp_path: Path) -> None:
    page = write_report(fabricate(tmp_path / "run", pictured=0)).read_text(encoding="utf-8")
    assert "What to look at" not in page


def test_symptoms_of_steps_and_of_evaluations_are_listed(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", pictured=0, steps=20, evaluated=(0, 20))
    for file, changed in (("metrics", {"divergence": 0.3}), ("evaluations", {"clip_diversity": 0})):
        path = run / f"{file}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        later = [row | changed if row["step"] > 0 else row for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in later), encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    _, _, after = page.partition("<h2>What to look at</h2>")
    listed, _, _ = after.partition("</section>")
    sentences = [part.partition("</p>")[0] for part in listed.split("<p>")[1:]]
    assert len(sentences) == 2
    assert sentences[0].startswith("Training, steps 1 to 10: the divergence was up to 0.3 in each")
    assert sentences[1].startswith("Training, step 20: clip_diversity fell to 0, 0 % of the base")
