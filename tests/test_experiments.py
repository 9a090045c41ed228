"""The published studies: their records can be read, and the tables in the texts are made from them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxaccel.publish.store import load_records

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted(ROOT.glob("experiments/**/README.md"))]
BLOCK = re.compile(r"<!-- (report|rerun): ([^>]*?) -->\n```\n(.*?)```\n<!-- end -->", re.DOTALL)
BLOCKS = [(text, *found) for text in TEXTS for found in BLOCK.findall(text.read_text())]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("experiments/**/records.jsonl")), ids=lambda p: p.parent.name
)
def test_published_records_can_be_read_and_are_accurate(path: Path) -> None:
    records = load_records([path])
    assert records
    for record in records:
        assert record.ok, record.error
        assert record.accuracy is not None
        assert record.accuracy.ok


def test_there_are_tables_in_the_texts() -> None:
    assert {text.relative_to(ROOT).as_posix() for text, *_ in BLOCKS} >= {
        "README.md",
        "experiments/accounting/README.md",
        "experiments/rerun/README.md",
    }


@pytest.mark.parametrize(("text", "kind", "places", "table"), BLOCKS, ids=lambda value: str(value)[-40:])
def test_a_table_in_a_text_is_what_the_records_give(text: Path, kind: str, places: str, table: str) -> None:
    """Should it fail, paste what the command prints between the marks."""
    command = {"report": ["jaxaccel.report"], "rerun": ["jaxaccel.selftest", "--rerun"]}[kind]
    told = subprocess.run(
        [sys.executable, "-m", *command, *places.split()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = [line.rstrip() for line in told.stdout.strip("\n").splitlines()]
    assert table.splitlines() == lines


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/**/*.json*")), ids=lambda p: p.name)
def test_no_path_of_a_machine_is_in_a_published_file(path: Path) -> None:
    assert not re.search(r'"(/home|/root|/work|/tmp|/Users)[/"]', path.read_text())
