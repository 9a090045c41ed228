"""What a second attempt got through with: folders, files beside claims, and places that can't be read."""

import json
import os
import re
from pathlib import Path

import pytest
from crafted import encoded, full_record
from markdown_it import MarkdownIt
from studies import claims, study

from jaxaccel import report, run
from jaxaccel.cli.identify import contents
from jaxaccel.records.errors import BadInputError

HERE = Path("/proc/self/mem")
CLAIM = """\
claims:
- {section: 1, claim: c, verdict: true, why: "It is {t}.", study: none, figures: [FIGURE]}
"""
TEXT = "{name: t, value: text, file: f.json, key: [k]}"
BYTES = "{name: t, value: number, file: f.json, key: [k], unit: B}"


def claims_of(folder: Path, figure: str = TEXT) -> str:
    """A file of one claim, whose figure is of f.json beside it."""
    path = folder / "claims.yaml"
    path.write_text(CLAIM.replace("FIGURE", figure))
    return str(path)


def test_links_in_a_circle_hide_no_other_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "loop", "pair"):
        (tmp_path / name).mkdir()
    (tmp_path / "good" / "record.json").write_bytes(encoded(full_record()))
    (tmp_path / "loop" / "record.json").symlink_to("record.json")
    (tmp_path / "pair" / "record.json").symlink_to("records.jsonl")
    (tmp_path / "pair" / "records.jsonl").symlink_to("record.json")
    assert report.main([str(tmp_path), "--format", "json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 1
    assert said.err.count("\n") == 1
    assert said.err.count("symbolic link") == 3


@pytest.mark.parametrize(
    "words",
    ["<img src=x>", "[x](https://example.org)", "a | b", "@someone", "x\n\n# y", "\x1b[31mred", "`a` *b*"],
)
def test_words_of_a_file_beside_claims_are_no_markup(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.json").write_text(json.dumps({"k": words}))
    assert claims.main([claims_of(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(said).replace("<!-- -->", "")
    tags = {"table", "thead", "tbody", "tr", "th", "td", "p", "ol", "li"}
    assert {*re.findall(r"<(\w+)", shown)} == tags
    assert shown.count("<td") == 6
    if "|" in words:
        assert "<td>t: a | b</td>" in shown


@pytest.mark.parametrize(
    "document",
    [
        *("", "[" * 100_000, "\ufeff{}"),
        *(f'{{"k": {n}}}' for n in ("NaN", "Infinity", "1e999", "1" + "0" * 400)),
    ],
)
def test_a_file_beside_claims_that_can_t_be_right_is_one_line(
    document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.json").write_text(document)
    assert claims.main([claims_of(tmp_path, BYTES)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert len(said.err) < 300 + len(str(tmp_path)) * 2


def test_a_file_beside_claims_is_a_plain_one_inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.json"
    inside.mkdir()
    outside.write_text('{"k": "private"}')
    (inside / "f.json").symlink_to(outside)
    assert claims.main([claims_of(inside)]) == 2
    said = capsys.readouterr()
    assert "f.json: a link that leads out of the folder" in said.err
    assert "private" not in said.out + said.err
    (inside / "f.json").unlink()
    os.mkfifo(inside / "f.json")
    assert claims.main([claims_of(inside)]) == 2
    assert "f.json: it is a FIFO, not a file" in capsys.readouterr().err


def test_the_name_of_a_study_s_folder_is_no_line_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "accounting+a\n\x1b[31maccounting: complete").mkdir()
    assert study.main(["--list", "accounting"], outputs=tmp_path) == 0
    said = capsys.readouterr().out
    assert r"accounting+a\n\x1b[31maccounting: complete: " in said
    assert len(said.splitlines()) == 3


@pytest.mark.skipif(not HERE.exists(), reason="Linux has it")
def test_a_program_that_can_t_be_read_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "p.bin"
    link.symlink_to(HERE)
    with pytest.raises(BadInputError, match=r"^`--program`: .*p\.bin' can't be read: "):
        contents(str(link), "--program")
    monkeypatch.chdir(tmp_path)
    assert run.main(["workload=exported", f"workload.file={link}", "wandb=disabled"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"`workload\.file`: .*p\.bin' can't be read: Input/output error", said)
    assert said.count("\n") == 1
