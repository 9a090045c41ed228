"""Text from others is inert in each kind of output: by function, and from a file to all that is written."""

import ast
import csv
import io
import json
import re
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crafted import HOSTILE, PWNED, encoded, full_record, hostile_records, put, with_text
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from jaxaccel import advise, report
from jaxaccel.analyze.compare import pair
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import Problem, escape
from jaxaccel.records.reading import read_record
from jaxaccel.render import rows
from jaxaccel.render.page import content
from jaxaccel.render.terminal import show_comparisons, show_failures, show_records
from jaxaccel.render.terminal.markdown import markdown
from jaxaccel.render.terminal.screen import Screen
from jaxaccel.report.bundle import readme
from jaxaccel.report.repro import repro
from jaxaccel.wandb.layout import runs_of

TEXTS = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(HOSTILE)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_inert(text: str) -> bool:
    """Whether a terminal shows all of it, in the order in which it stands."""
    return all(part.isprintable() for part in text.split("\n"))


# --- each kind of output ---------------------------------------------------------------------------


@given(TEXTS)
def test_a_line_stays_a_line_and_plain_text_stays_as_it_is(text: str) -> None:
    shown = escape.inert(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * escape.LINE + 100
    assert escape.inert(escape.inert(text, None), None) == escape.inert(text, None)
    if text.isascii() and text.isprintable() and len(text) <= escape.LINE:
        assert shown == text
    assert is_inert(escape.terminal(text))
    assert is_inert(escape.report(text))


def test_what_is_shown_of_control_characters_is_readable() -> None:
    assert escape.inert("a\x1b[31m\u202eb\n\u00a0é µ") == r"a\x1b[31m\u202eb\n é µ"
    assert escape.terminal("a\tb\r\nc") == "a   b\nc"


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "a line\n" * 10_000, "\n" * 401, "x" * 4_999 + "\n" + "y" * 50_000]
)
def test_text_that_was_clipped_is_not_clipped_again(text: str) -> None:
    line, lines = escape.inert(text.replace("\n", " "), 100), escape.report(text)
    assert len(line) in (99, 100)
    assert escape.inert(line, 100) == line
    assert len(lines) <= escape.TEXT
    assert lines.count("\n") < escape.LINES
    assert escape.report(lines) == lines


def test_what_is_missing_and_what_is_shown_are_all_of_it() -> None:
    clipped = escape.clip("x" * 10_000, 100)
    missing = re.search(r"(\d+) more characters", clipped)
    assert missing
    assert int(missing[1]) + clipped.count("x") == 10_000


@given(st.lists(st.fixed_dictionaries({"a": TEXTS, "=b": TEXTS | st.integers() | st.floats()}), min_size=1))
def test_a_spreadsheet_computes_nothing(rows: list[dict[str, Any]]) -> None:
    text = escape.csv_table(rows)
    assert is_inert(text)
    head, *found = list(csv.reader(io.StringIO(text)))
    assert (sorted(head), len(found)) == (["'=b", "a"], len(rows))
    for line, row in zip(found, rows, strict=True):
        for name, cell in zip(head, line, strict=True):
            value = row[name.lstrip("'")]
            for part in cell.split(";") if isinstance(value, str) else ():
                assert part.lstrip()[:1] not in {*"=+-@＝＋－＠\t\r"}, cell


class Tags(HTMLParser):
    """The tags of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)

    handle_endtag = handle_startendtag = handle_pi = handle_decl = handle_starttag  # type: ignore[assignment]


@given(TEXTS)
def test_a_browser_finds_no_markup(text: str) -> None:
    tags = Tags()
    tags.handle_endtag = tags.found.append  # type: ignore[method-assign]
    tags.handle_pi = tags.handle_decl = tags.found.append  # type: ignore[method-assign]
    tags.feed(escape.html(text))
    assert tags.found == []


@given(TEXTS)
def test_markdown_shows_words_and_no_links_pictures_or_markup(text: str) -> None:
    words = escape.markdown(text)
    assert words.isprintable()
    tags = Tags()
    tags.handle_endtag = lambda tag: None  # type: ignore[method-assign,assignment]
    tags.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"x {words} x"))
    assert {*tags.found} <= {"p"}
    assert not re.search(r"(?<!\\)://|@\w|(?<!\\)\|", words)


@given(
    st.lists(
        TEXTS.filter(lambda text: "\0" not in text and not re.search("[\ud800-\udfff]", text)), max_size=3
    )
)
@settings(deadline=None, max_examples=20)
def test_a_shell_takes_each_word_as_one_argument(words: list[str]) -> None:
    line = escape.shell(["printf", r"%s\0", "", *words])
    ran = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert ran.stdout.decode().split("\0")[1:-1] == words


@given(TEXTS)
def test_a_command_from_a_record_runs_nothing_but_itself(text: str) -> None:
    for line in (text, f"python -m jaxaccel.run {text}", f"python -m jaxaccel; {text}"):
        assert escape.command(line).isprintable()
    assert (
        escape.command("python -m jaxaccel.run size=4; touch x") == "python -m jaxaccel.run 'size=4;' touch x"
    )
    assert escape.command("touch x") == "'touch x'"
    assert escape.command("python -m jaxaccel.run 'a b' c=[1,2]") == "python -m jaxaccel.run 'a b' 'c=[1,2]'"


@given(st.recursive(TEXTS | st.none() | st.integers() | st.booleans(), st.lists, max_leaves=5))
def test_python_reads_a_literal_and_nothing_else(value: Any) -> None:
    literal = escape.python(value)
    assert literal.isascii()
    assert literal.isprintable()
    assert ast.literal_eval(literal) == value


@given(TEXTS)
def test_words_of_a_docstring_stay_in_it(text: str) -> None:
    (only,) = ast.parse(f'"""{escape.docstring(text)}."""\n').body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


@given(st.lists(TEXTS, max_size=4))
def test_a_file_name_leads_nowhere_else(words: list[str]) -> None:
    name = escape.file_name(words)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)
    assert (len(name) <= escape.NAME, name) == (True, Path(name).name)


@given(st.dictionaries(TEXTS, TEXTS))
def test_json_says_the_same_and_nothing_is_obeyed(value: dict[str, str]) -> None:
    text = escape.json_text(json.dumps(value, ensure_ascii=False, indent=1))
    assert is_inert(text)
    assert json.loads(text) == value


def test_nested_text_is_made_inert_and_clean_data_is_the_same_object() -> None:
    clean = full_record()
    assert escape.everywhere(clean) is clean
    found = escape.everywhere(
        {"a\x1b": [1, "b\x1b", 2], "c": ("d\u202e",), "details": "e\nf\x1b"}, ("details",)
    )
    assert found == {r"a\x1b": [1, r"b\x1b", 2], "c": (r"d\u202e",), "details": r"e\nf\x1b"}
    problem = Problem(type="a\nb", message="c\nd", details="e\nf\x1b")
    assert escape.everywhere(problem, ("details",)) == Problem(
        type=r"a\nb", message=r"c\nd", details="e\nf\\x1b"
    )


def test_the_terminal_obeys_nothing_whoever_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for text in HOSTILE:
        table = Table(title=text, caption=text)
        table.add_column(text)
        table.add_row(text)
        screen = Screen(width=80)
        screen.print(text, table)
        for speak in (say, tell, warn):
            speak(text)
    said = capsys.readouterr()
    assert is_inert(said.out)
    assert is_inert(said.err)
    assert "[red]x" in said.out


# --- from a file to all outputs --------------------------------------------------------------------


@pytest.mark.slow
@FEW
@given(text=TEXTS)
@example(text=HOSTILE[0])
@example(text=HOSTILE[13])
@example(text=HOSTILE[19])
@example(text=HOSTILE[-1])
def test_what_a_record_says_is_inert_in_every_output(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = hostile_records(text)
    comparisons = pair(records)
    screen = Screen(width=100)
    show_comparisons(screen, comparisons)
    show_records(screen, records[:2])
    show_failures(screen, records, details=True)
    said = capsys.readouterr().out
    assert is_inert(said)
    assert len(said) < 300_000

    assert is_inert(markdown(records, comparisons))
    table = escape.csv_table([rows.row(comparison) for comparison in comparisons])
    assert is_inert(table)
    for row in csv.DictReader(io.StringIO(table)):
        for cell in row.values():
            number = re.fullmatch(r"-?[\d.e+-]+", cell)
            assert number or cell[:1] not in {*"=+-@\t\r"}, cell
    page = escape.everywhere(content(records, comparisons=comparisons))
    assert is_inert("".join(strings(page)))
    runs = msgspec.to_builtins(runs_of(records))
    assert is_inert("".join(strings(runs)))

    script = repro(records[0], ("float32[4]",))
    tree = ast.parse(script)
    usual = ast.parse(repro(read_record(encoded(full_record())), ("float32[4]",)))
    assert [type(node) for node in tree.body] == [type(node) for node in usual.body]
    assert len(script.splitlines()) <= 40
    assert "PYTHONPATH" not in script
    assert is_inert(readme(tmp_path, records[0], [], {}))


def strings(value: Any) -> list[str]:
    """All text of nested data."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    return [text for part in value for text in strings(part)] if isinstance(value, list | tuple) else []


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_commands_show_and_run_nothing_of_a_record(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "received"
    folder.mkdir()
    lines = [encoded(with_text(text)), encoded(with_text(text, "gpu"))]
    (folder / "records.jsonl").write_bytes(b"\n".join(lines))
    for options in ([], ["--format", "markdown"], ["--format", "csv"], ["--format", "json"]):
        assert report.main(["received", *options]) == 0
        said = capsys.readouterr()
        assert is_inert(said.out + said.err), options
    assert advise.main(["received"]) in (0, 2)
    assert report.main(["received", "--baseline", "received", "--allow", "machine,versions,precision"]) in (
        0,
        2,
    )
    said = capsys.readouterr()
    assert is_inert(said.out + said.err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["received", "records.jsonl", "report.html"]
    assert PWNED not in {path.name for path in tmp_path.rglob("*")}


def test_a_command_that_measures_again_takes_text_as_it_is() -> None:
    from jaxaccel.records import Case
    from jaxaccel.render.page.rows import command_of

    document = put(full_record(), ("case", "params"), {"kind": "${oc.env:HOME} 'x' $(touch y)"})
    document["case_id"] = Case(**document["case"]).case_id
    told = command_of(read_record(encoded(document)))
    assert told is not None
    assert r"\${oc.env:HOME}" in told
    assert shlex.split(told)[-2] == r"workload.kind='\${oc.env:HOME} \'x\' $(touch y)'"
