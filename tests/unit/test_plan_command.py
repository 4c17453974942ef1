"""Test clipdex plan: it estimates with measured rates, names them, and gives no number that was never measured."""

import json
from pathlib import Path

import pytest

from clipdex.cli import main
from clipdex.presets import DETECTORS, PROFILES

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks/results"


@pytest.fixture
def plan(monkeypatch, tmp_path, capsys):
    """Run clipdex plan over 1,000,000 clips; return the exit code, its JSON, and stderr."""
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))

    def run(*arguments):
        code = main(["plan", "--clips", "1000000", "--json", *arguments])
        output = capsys.readouterr()
        return code, json.loads(output.out or "null"), output.err

    return run


def test_every_profile_is_known_and_no_other():
    folder = REPOSITORY / "docker/sglang/profiles"
    assert set(PROFILES) == {path.stem for path in folder.glob("*.toml") if "[sampling]" in path.read_text()}


def test_the_rates_are_those_of_the_benchmarks():
    measured = json.loads((RESULTS / "summary.json").read_text())["pipeline_whole_clips_per_s"]
    assert PROFILES["h100-h200"].clips_per_second == round(measured, 1)
    assert f"{DETECTORS.clips_per_second} clips/s per core" in (REPOSITORY / "docs/benchmarks.md").read_text()


def test_a_measured_profile_is_named_with_its_rate(plan):
    code, costs, _ = plan("--gpus", "4", "--profile", "h100-h200")
    assert code == 0 and costs["hours"] == pytest.approx(1e6 / (4 * 11.9) / 3600)
    assert costs["basis"].startswith("4 GPUs at 11.9 clips/s each, profile h100-h200, measured on one H200")


def test_the_detectors_are_planned_on_cores(plan):
    code, costs, _ = plan()
    assert code == 0 and costs["gpu_seconds_per_clip"] is None
    assert "cores at 0.35 clips/s each, detectors, measured" in costs["basis"]


@pytest.mark.parametrize("profile", [name for name, measured in PROFILES.items() if measured is None])
def test_a_profile_without_a_measurement_needs_a_rate(plan, profile):
    code, costs, message = plan("--profile", profile)
    assert (code, costs) == (2, None)
    assert f"the profile {profile} was never measured: give --clips-per-second-per-gpu" in message
    code, costs, _ = plan("--profile", profile, "--clips-per-second-per-gpu", "2.5", "--gpus", "2")
    assert code == 0 and (costs["clips_per_second"], costs["gpu_seconds_per_clip"]) == (5.0, 0.4)


def test_gpus_without_a_rate_are_not_ignored(plan):
    code, _, message = plan("--gpus", "20")
    assert code == 2 and "--gpus needs a rate: give --profile (h100-h200)" in message


def test_another_engine_has_no_estimate_without_a_rate(plan, monkeypatch, capsys):
    for name, value in (("NAME", "vllm"), ("MODEL", "m"), ("BASE_URLS", '["http://127.0.0.1:9"]')):
        monkeypatch.setenv(f"CLIPDEX_ENGINE__{name}", value)
    code, costs, _ = plan()
    assert code == 0 and costs["batches"] == 15625 and costs["hours"] is None
    assert main(["plan", "--clips", "1000000"]) == 0
    assert "no estimate of the time (give --profile (h100-h200) or" in capsys.readouterr().out
