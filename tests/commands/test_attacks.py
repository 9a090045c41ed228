"""What somebody tried who means harm, and got through with once: each a kind that must not come back."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, in_browser
from fakes import make_case, make_record, make_timing
from markdown_it import MarkdownIt

from jaxaccel import report
from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.records import Code, Flag, Record, encode_record, escape, store
from jaxaccel.records.reading import way_out
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.records.redact.outlets import document
from jaxaccel.render.figures import draw
from jaxaccel.render.figures.samples import draw_samples
from jaxaccel.render.page import content, write_page
from jaxaccel.wandb.layout import runs_of

# A link, as Plotly reads it, beside templates by which it would put in a text that was not escaped.
LINK = '<a href="https&#58;//example.org">x</a>'
DRAWN = (
    f"m:{LINK} %{{meta.workload}} %{{data[0].meta.workload}} %{{fullData.meta.workload}} $\\\\href{{x}}{{y}}$"
)


def drawn_as(words: str) -> list[Record]:
    """Pairs of two kinds of case at three sizes, with flags, whose functions and parameters are words."""
    found = []
    for size in (256, 1024, 4096):
        for note in (words, f"other {words}"):
            case = make_case(size, workload="custom", params={"fn": words, "note": note})
            for device, time_s in (("cpu", 1e-3), ("gpu", 1e-4)):
                timings = {
                    metric: make_timing(*[[[time_s * (1 + step / 100)] * 3] for step in range(3)])
                    for metric in ("latency", "throughput", "device", "end_to_end", "h2d", "d2h")
                }
                flag = Flag(name=min(SEVERE_FLAGS), metric="latency", message=words)
                found.append(make_record(device, case=case, timings=timings, warnings=(flag,)))
    return found


def texts(value: Any) -> Iterator[str]:
    """All text of nested data, but for what a trace is of: `meta` is never shown by itself."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from () if name == "meta" else texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from texts(entry)


def test_words_of_a_record_are_no_markup_and_no_template_of_a_figure() -> None:
    records = drawn_as(DRAWN)
    figures = [*draw(records, families(pair(records))), *draw_samples(records[:2])]
    found = [text for figure in figures for text in texts([figure.data, figure.layout])]
    assert {figure.kind for figure in figures} >= {
        "latency",
        "speedup",
        "parts",
        "roofline",
        "energy",
        "samples",
    }
    assert any("example.org" in text for text in found)
    for text in found:
        assert not [sign for sign in ("<a", "%{meta", "%{data", "%{fullData.meta", "$") if sign in text], text


@pytest.mark.slow
@in_browser
def test_a_page_and_its_saved_figures_have_no_link_of_a_record(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = write_page(drawn_as(DRAWN), tmp_path / "report.html")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page()
        view.goto(path.as_uri())
        view.locator(".js-plotly-plot .legend").first.wait_for(state="attached")
        saved = view.evaluate(
            """async () => Promise.all(
              [...jaxaccel.data.figures, ...jaxaccel.data.samples].map(async (one) => {
              const [drawn, options] = jaxaccel.image(one, "svg");
              return decodeURIComponent(await Plotly.toImage(drawn, options));
            }))"""
        )
        shown = view.evaluate("document.querySelectorAll('.plot a, #headlines a, #cases a').length")
        browser.close()
    assert len(saved) > 5
    assert sum("example.org" in text for text in saved) > 3
    assert [text for text in saved if "<a " in text] == []
    assert shown == 0


@pytest.mark.parametrize("text", ['x;"=1+1;y', 'x; " \'"=1+1', 'x;""@SUM(1);', 'a;\u00a0"＝1'])
def test_no_cell_is_a_formula_where_a_semicolon_ends_it(text: str) -> None:
    """Excel and LibreOffice take it for the separator where a comma is the decimal point."""
    table = escape.csv_table([{"a": "x", "b": text, "c": "y"}])
    for row in csv.reader(io.StringIO(table), delimiter=";"):
        for cell in row:
            assert cell.lstrip()[:1] not in {*"=+-@＝"}, row


@pytest.mark.parametrize(
    "text", ["- x", "+ x", "-", "--- ", "===", "1. x", "12) x", "- [ ] x", "> x", "# x", "* x", "1.", "~~~"]
)
def test_words_at_the_begin_of_a_line_of_markdown_are_no_list_no_rule_and_no_heading(text: str) -> None:
    render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    words = escape.markdown(text)
    assert re.findall(r"<(\w+)", render(words).replace("<!-- -->", "")) == ["p"]
    assert re.findall(r"<(\w+)", render(f"- {words}").replace("<!-- -->", "")) == ["ul", "li"]
    assert render(words).replace("<!-- -->", "").replace("&gt;", ">") == f"<p>{text.strip()}</p>\n"


@pytest.mark.parametrize("text", ["#1", "owner/name#12", "GH-7", "see gh-8", "@someone", "@a/team"])
def test_nobody_is_notified_whatever_is_left_once_markdown_has_been_read(text: str) -> None:
    shown = MarkdownIt("commonmark").render(escape.markdown(text))
    assert not re.search(r"[@#]\w|GH-\d", shown, re.IGNORECASE)


def test_the_name_of_a_folder_is_no_line_of_ours_and_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "a\nPage: b; touch c"
    store.save(make_record(), Path(odd))
    assert report.main([odd]) == 0
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("Page: ")] == [
        r"Page: a\nPage: b; touch c/report.html"
    ]
    store.save(replace(make_record(), arm=replace(make_record().arm, framework="torch")), Path("x; touch c"))
    assert report.main(["x; touch c"]) == 2
    assert "see python -m jaxaccel.peers report 'x; touch c'" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["x" * 900, "../../../x", "é" * 200, "a/../b", "/etc/x", "a//b"])
def test_no_figure_of_a_record_leads_out_of_the_folder_of_wandb(words: str) -> None:
    records = drawn_as(words)
    figures = {name for run in runs_of(records) for name in run.figures}
    assert len(figures) > 5
    for part in (part for name in figures for part in name.split("/")):
        assert part not in ("", ".", "..")
        assert len(part.encode()) < 200
    assert {*figures} == {name for run in runs_of(records) for name in run.figures}


@pytest.mark.parametrize("digest", ["../../x", "a/b", "x" * 400, "\0", "", ".."])
def test_what_a_record_calls_its_source_is_no_place(digest: str, tmp_path: Path) -> None:
    """A record that is kept aside has a name of it."""
    before = make_record(code=Code(digest=digest, modules=()))
    folder = tmp_path / "a" / "run"
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(encode_record(before))
    now = make_record(code=Code(digest="0" * 16, modules=()))
    assert store.load_records([store.save(now, folder)])[0].code == now.code
    assert {path.parent for path in tmp_path.rglob("*.json")} == {folder}
    assert len([*folder.iterdir()]) == 2


def test_a_secret_that_is_a_name_is_hidden_as_one_that_is_a_value_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter-Zq81xyTop"
    monkeypatch.setenv("MY_API_KEY", secret)
    assert all_without_secrets({secret: 1, "a": {f"x {secret}": 2}}) == {"hidden": 1, "a": {"x hidden": 2}}
    names = {secret: "a", f"{secret}1": "b", "hidden": "c", "hidden1": "d"}
    assert [*all_without_secrets(names).values()] == ["a", "b", "c", "d"]
    token = "ghp_" + "a1B2" * 9
    assert all_without_secrets({token: 1}) == {"hidden": 1}
    plain = {"a": 1, "b": {"c": "d"}}
    assert all_without_secrets(plain) is plain
    assert secret.encode() not in document("a.json", json.dumps({secret: {secret: 1}}).encode())
    named = {"absent": {secret: "why"}, "results": {f"a_{secret}": 1.0}}
    record = make_record(**named, environment={f"e_{secret}": {secret: 1}, "packages": {secret: "1"}})
    store.save(record, tmp_path)
    assert len(store.load_records([tmp_path])) == 1
    monkeypatch.setenv("MY_PASSWORD", "python")  # a word, and the name of a part of the environment
    assert all_without_secrets({"python": "3"}) == {"python": "3"}
    assert secret.encode() not in (tmp_path / "record.json").read_bytes()
    assert secret not in json.dumps(all_without_secrets(content([record])))
    assert secret not in repr(runs_of([record]))


def test_a_folder_to_be_resumed_has_no_fifo_that_would_be_written_to(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    assert way_out(tmp_path) is None
    os.mkfifo(tmp_path / "record.json")  # passed over, and set aside
    assert way_out(tmp_path) is None
    os.mkfifo(tmp_path / ".hydra" / "config.yaml")
    assert way_out(tmp_path) == tmp_path / ".hydra" / "config.yaml"
