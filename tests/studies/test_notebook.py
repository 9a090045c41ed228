"""The notebook runs from its first cell to its last, on a CPU, and is kept without what it printed."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from processes import ROOT

NOTEBOOK = ROOT / "notebooks/cpu_or_gpu.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


def test_outputs_are_not_in_git_and_neither_is_a_machine() -> None:
    """Should it fail: clear all outputs, and save."""
    for cell in cells():
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_it_predicts_then_measures_then_explains() -> None:
    titles = [line for cell in cells() for line in cell["source"] if line.startswith("## ")]
    order = [title.split()[2] for title in titles[:5]]
    assert order == ["Predict", "Measure", "What", "Explain", "The"]
    assert titles[4].strip() == "## 5. The speedup plot"


# Jupyter's own packages warn of each other; what jaxaccel warns of would be in the cells' outputs.
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_it_runs_to_its_end_and_ends_in_the_speedup_plot(environment: dict[str, str], tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(NOTEBOOK.parent)
    more = {"JAXACCEL_NOTEBOOK_QUICK": "1", "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(cwd=folder, env=environment | more)  # which raises what a cell raises

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = "".join(out.text for cell in code for out in cell.outputs if out.output_type == "stream")
    assert "measured here: cpu; results in" in said
    assert "Warning" not in said
    assert "published: cpu: Intel(R) Xeon(R) Processor, 16 cores, gpu: NVIDIA H200" in said
    assert len(re.findall(r"you said 1x; published: [0-9.]+x$", said, re.MULTILINE)) == 4
    assert len(re.findall(r"size 3000, data .*: the [CG]PU, [0-9.]+x as fast", said)) == 2

    drawn = [out.data[PLOTLY] for cell in code for out in cell.outputs if PLOTLY in out.get("data", {})]
    assert len(drawn) == 3
    assert [PLOTLY in out.get("data", {}) for out in code[-1].outputs] == [True]
    names = [trace["name"] for trace in drawn[-1]["data"]]
    assert {"published CPU and GPU: resident", "your CPU, the published GPU: resident"} <= {*names}
    for trace in drawn[-1]["data"]:
        sizes = list(trace["x"])
        assert sizes == ([256] if trace["name"].startswith("your") else [256, 1024, 4096, 8192, 16384, 32768])
