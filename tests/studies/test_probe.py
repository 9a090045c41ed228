"""experiments/probe: when two medians agree, and that its text has the numbers of its JSON."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from processes import ROOT

FOLDER = ROOT / "experiments/probe"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = spec_from_file_location("probe_compare", FOLDER / "compare.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "agrees"),
    [
        ("device", 100.9, [100.0, 100.0], True),
        ("device", 101.1, [100.0, 100.0], False),
        ("throughput", 98.9, [100.0, 100.0], False),
        ("throughput", 120.0, [80.0, 100.0, 130.0], True),  # the probe's processes differ by more
        ("throughput", 131.0, [80.0, 100.0, 130.0], False),
        ("device", 100.8, [99.9, 100.0, 100.1], True),  # within 1%, if not between them
        ("latency", 100.5, [99.9, 100.0, 100.1], False),  # must be between them
        ("latency", 120.0, [80.0, 130.0], True),
    ],
)
def test_medians_agree_within_one_percent_or_inside_a_wider_spread(
    compare: ModuleType, metric: str, ours: float, theirs: list[float], agrees: bool
) -> None:
    assert compare.judge(metric, ours, theirs) is agrees


def shown(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "experiments/probe/compare.py", "--show", str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_table_in_the_text_is_what_the_json_gives() -> None:
    """Should it fail, paste what the command prints between the marks."""
    found = shown(FOLDER / "h200.json")
    assert found.returncode == 1  # own code does not agree
    text = (FOLDER / "README.md").read_text()
    assert f"<!-- probe: h200.json -->\n{found.stdout}<!-- end -->\n" in text


@pytest.mark.parametrize(
    ("name", "sums"),
    [("h200", "28 agree, 2 do not"), ("h200_before", "23 agree, 7 do not"), ("h200_own_again", "1 agree, 2")],
)
def test_the_sums_in_the_text_are_those_of_the_json(name: str, sums: str) -> None:
    assert sums in shown(FOLDER / f"{name}.json").stdout
