"""experiments/field: its table is that of its records."""

import subprocess
import sys

from processes import ROOT

from jaxaccel.records.store import load_records


def test_the_table_of_own_code_on_a_gpu_is_what_the_records_give() -> None:
    """Should it fail, paste what the command prints between the marks."""
    command = [sys.executable, "experiments/field/table.py"]
    table = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    text = (ROOT / "experiments/field/README.md").read_text()
    assert f"<!-- field -->\n{table}<!-- end -->\n" in text


def test_all_of_its_records_can_be_read_and_one_failed() -> None:
    records = load_records([ROOT / "experiments/field"])
    assert len(records) == 27
    (failed,) = (record for record in records if not record.ok)
    assert failed.case.params["fn"] == "22-many-leaves:fn"
