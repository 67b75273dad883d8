"""A metric that is measured at a setting of the run is compared at one value of it."""

import json
from dataclasses import replace
from pathlib import Path

import yaml

from adrpo.comparison import collect, write_results
from support.fabricated_comparison import fabricate_comparison


def test_what_is_measured_at_another_guidance_is_not_compared(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8)
    first, second = plan.methods
    key = "training.guidance_scale"
    assert first.settings[key] == 1.0
    other = replace(second, settings=second.settings | {key: 3.5})
    for seed in plan.seeds:
        path = plan.run_folder(second, seed) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["training"]["guidance_scale"] = 3.5
        path.write_text(yaml.safe_dump(config))
    page = write_results(collect(replace(plan, methods=(first, other))), "adrpo compare")
    summary = json.loads((plan.folder / "summary.json").read_text())
    assert summary["not_compared"] == ["divergence"]
    for found in summary["splits"].values():
        for estimates in (found["base"], *found["methods"].values(), *found["difference"].values()):
            assert "divergence" not in estimates and "clip_score" in estimates
        assert "divergence" not in {trade_off["price"] for trade_off in found["trade_offs"]}
    assert "Not compared: Divergence. The methods" in page.read_text()
