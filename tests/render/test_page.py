"""The page: its text, the command that writes it, and what Chromium makes of it."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, in_browser
from fakes import make_case, make_failed
from pictured import arm, pairs
from processes import ROOT

from jaxaccel.analyze.money import Prices
from jaxaccel.cli import commands
from jaxaccel.records import Flag, Record, encode_record, store
from jaxaccel.render.page import content, page, write_page
from jaxaccel.render.page.rows import command_of
from jaxaccel.render.terminal.markdown import markdown
from jaxaccel.report import main

CROSSING = {256: 0.25, 1024: 0.5, 4096: 4.0, 16384: 16.0}
EVIL = "<img src=x onerror=boom()></script><!--"
FAR = {"host_id": "far", "python": "3.12.4", "cpu": {"model": "Xeon", "cores": 64}}
PRICES = Prices(per_hour={"cpu": 1.0, "gpu": 3.0}, date="2026-01-02", currency="EUR")
BIMODAL = Flag(name="bimodal", metric="latency", message="the samples fall into two groups")


def everything() -> list[Record]:
    """Two workloads, two dtypes, a name that is markup, a failure, and flags."""
    records = pairs(CROSSING) + pairs({256: 3.0, 1024: 5.0}, case={"dtype": "float64"})
    records += pairs({256: 2.0, 512: 3.0}, case={"workload": EVIL, "dtype": "float32"})
    records[1] = replace(records[1], warnings=(BIMODAL,))
    failing = make_case(8)
    return [*records, arm("cpu", 8, 1e-5, case=failing), make_failed("gpu", case=failing, message=EVIL)]


def packed(text: str, name: str) -> str:
    (found,) = re.findall(f'<script type="text/plain" id="{name}">([^<]*)</script>', text)
    return zlib.decompress(base64.b64decode(found)).decode()


# --- its text --------------------------------------------------------------------------------------


def test_a_page_is_one_file_that_needs_no_other() -> None:
    text = page(everything())
    assert "default-src 'none'" in text
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', text)
    assert "url(" not in text
    assert "@import" not in text
    assert packed(text, "plotly").startswith("/**")
    assert text.count("%%") == 0


def test_what_is_in_records_can_never_be_markup() -> None:
    text = page(everything())
    assert "onerror" not in text
    assert EVIL in json.loads(packed(text, "data"))["records"][-1]["error"][1]


def test_the_page_has_each_record_with_its_command_and_environment() -> None:
    record = pairs({256: 2.0})[0]
    told = content([record])
    (row,), (shown,) = told["rows"], told["records"]
    assert (row["name"], row["size"], row["records"]) == ("matvec 256", 256, [0])
    assert row["cpu"]["latency"] == (2e-4, "200 µs")
    assert told["shared"][shown["environment"]]["cpu.model"] == "EPYC"
    assert told["shared"][shown["flags"]] == {"jax_enable_x64": "False"}
    assert told["shared"][shown["command"]] == record.command
    assert shown["again"] == (
        "python -m jaxaccel.run workload=matvec device=cpu size=256 dtype=float32 precision=highest seed=0 "
        "passes=3"
    )
    assert "samples_s" not in json.dumps(told["records"])


def test_the_command_of_a_record_composes_to_its_case() -> None:
    import shlex

    from jaxaccel.cli.compose import compose

    record = store.load_records([ROOT / "experiments/accounting"])
    mlp = next(r for r in record if r.case.workload == "mlp" and r.case.dtype == "bfloat16")
    words = shlex.split(command_of(mlp) or "")[3:]
    assert words[:2] == ["workload=mlp", f"device={mlp.arm.requested}"]
    composed = compose([*words, "wandb=disabled"], "test")
    try:
        (one,) = composed.jobs[0].config.arms
        assert one.case.case_id == mlp.case_id
    finally:
        composed.discard()


def test_a_case_that_only_a_file_can_name_has_no_command() -> None:
    case = make_case(params={"sha256": "abc"})
    assert command_of(arm("cpu", 1024, 1e-4, case=case)) is None


def test_another_schema_is_read_and_told() -> None:
    old = [replace(record, schema_version=0) for record in pairs({256: 2.0})]
    (note,) = content(old)["notes"]
    assert note.startswith("2 records are of schema version 0, and this jaxaccel writes 1")


def test_machines_stand_apart_and_are_told() -> None:
    records = pairs({256: 0.5}) + pairs({256: 4.0}, environment=FAR, sweep_id="far", pair_id="far")
    told = content(records)
    assert [row["machines"] for row in told["rows"]] == ["machine A", "machine B"]
    assert [row["speedup"]["latency"][0] for row in told["rows"]] == pytest.approx([0.5, 4.0], rel=1e-3)
    assert "records of 2 machines (A, B)" in told["notes"][0]
    assert told["devices"] == [
        "cpu: AMD EPYC, 8 cores, machine A",
        "gpu: NVIDIA H200, machine A",
        "cpu: AMD EPYC, 64 cores, machine B",
        "gpu: NVIDIA H200, machine B",
    ]


def test_why_a_figure_is_missing_is_said() -> None:
    told = content([replace(arm("cpu", 256, 1e-4), energy=None, absent={"energy": "no meter here"})])
    assert told["absent"]["energy"] == "no meter here"
    assert "no prices were given" in told["absent"]["cost"]
    assert told["absent"]["speedup"].startswith("no case has the latency")


@pytest.mark.parametrize("records", [[], [make_failed("gpu")], [arm("cpu", 256, 1e-4)]])
def test_odd_records_make_a_page_too(records: list[Record]) -> None:
    told = json.loads(packed(page(records), "data"))
    assert len(told["rows"]) == len(records)


def test_markdown_is_what_one_pastes(tmp_path: Path) -> None:
    text = markdown(everything(), prices=PRICES, skipped=["half.json, record 1: cut"])
    assert "- **matvec float32 highest**: On this machine the GPU wins matvec from somewhere between" in text
    assert "| matvec 256 | 25.0 µs | 100 µs! | 0.25x" in text
    assert "**Note**: skipped, as it can't be read: half.json, record 1: cut" in text
    assert "cpu 1.00 EUR, gpu 3.00 EUR" in text
    assert "<img" not in text
    assert "&lt;img src=x onerror=boom()&gt;" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count(" | ") for line in block.splitlines()}) == 1


def test_the_published_page_is_that_of_its_records_and_small() -> None:
    """Should it fail, run scripts/pictures, and look at what it made."""
    study = ROOT / "experiments/accounting"
    text = (study / "report.html").read_text()
    told, now = json.loads(packed(text, "data")), content(store.load_records([study]))
    assert told["headlines"] == now["headlines"]
    assert [figure["name"] for figure in told["figures"]] == [figure["name"] for figure in now["figures"]]
    assert [row["name"] for row in told["rows"]] == [row["name"] for row in now["rows"]]
    for name in ("page.js", "page.css"):
        assert (study.parents[1] / "jaxaccel/render/page" / name).read_text() in text, f"{name} has changed"
    assert len(text) < 6_000_000
    pictures = sorted((study / "figures").glob("*.png"))
    assert [path.name for path in pictures] == ["parts.png", "roofline.png", "speedup.png", "time.png"]
    assert max(path.stat().st_size for path in pictures) < 200_000


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.save_all(pairs(CROSSING), tmp_path / "sweep")
    return tmp_path / "sweep"


def test_the_page_lies_beside_the_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith(f"Page: {folder / 'report.html'}")
    assert "speedup [95%]" in out
    assert len(json.loads(packed((folder / "report.html").read_text(), "data"))["rows"]) == 4
    assert main([str(folder / "records.jsonl"), "--output", str(folder / "deep/er/x.html")]) == 0
    assert (folder / "deep/er/x.html").exists()


def test_other_formats_are_printed_or_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, start in (("markdown", "- cpu: AMD EPYC"), ("csv", "case_id,"), ("json", "[")):
        assert main([str(folder), "--format", form]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(start)
        target = folder / f"x.{form}"
        assert main([str(folder), "--format", form, "--output", str(target)]) == 0
        assert capsys.readouterr().out == ""
        assert target.read_text() == printed
    assert not (folder / "report.html").exists()


def test_only_and_prices_hold_for_the_page(folder: Path) -> None:
    assert main([str(folder), "--only", "size=256,4096", "--price", "cpu=1", "--price", "gpu=3"]) == 0
    told = json.loads(packed((folder / "report.html").read_text(), "data"))
    assert [row["size"] for row in told["rows"]] == [256, 4096]
    assert told["prices"].endswith("cpu 1.00, gpu 3.00")
    assert "cost" in {figure["kind"] for figure in told["figures"]}


def test_a_cut_off_file_is_named_and_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = folder / "half" / "record.json"
    half.parent.mkdir()
    half.write_bytes(encode_record(arm("cpu", 8, 1e-5))[:200])
    assert main([str(folder)]) == 0
    said = capsys.readouterr()
    what = "passed over a record that can't be read"
    assert said.err.startswith(f"jaxaccel: {what}: {half}: Input data was truncated")
    assert said.err.count("\n") == 1
    assert "matvec 4096" in said.out
    (note,) = json.loads(packed((folder / "report.html").read_text(), "data"))["notes"]
    assert str(half) in note
    assert main([str(half)]) == 2
    assert str(half) in capsys.readouterr().err


def test_an_empty_folder_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"jaxaccel: `NEW` must hold record.json or records.jsonl, got {str(tmp_path)!r}\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--output", "."), "`--output` must be a file, got '.'"),
        (("--output", ""), "`--output` must be a file, got ''"),
        (("--output", "x", "--format", "table"), "`--output` is not for `--format table`, got 'x'"),
        (("--output", "records.jsonl/x"), "`--output` must be a file that can be written, got"),
        (("--baseline", ".", "--format", "html"), "must be one of table, csv, json with a `--baseline`"),
        (("--baseline", ".", "--output", "x"), "`--output` is not for `--format table`, got 'x'"),
    ],
)
def test_wrong_outputs_are_refused_in_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main([".", *options]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_page_that_cant_be_written_costs_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").mkdir()
    commands.leave_page(pairs({256: 2.0}), tmp_path)
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("jaxaccel: the page could not be written: ")
    commands.leave_page(pairs({256: 2.0}), tmp_path / "sub")
    assert capsys.readouterr().out == f"Page: {tmp_path / 'sub/report.html'}\n"


# --- in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # As root, and in containers, Chromium's own sandbox does not start: the page is ours.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(everything(), tmp_path_factory.mktemp("page") / "report.html", PRICES)


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Callable[..., Any]]:
    """opened(**settings of the window): the page, drawn. No error and no request may come of it."""
    troubles: list[str] = []
    contexts = []

    def open_page(path: Path = written, **settings: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
        contexts.append(context)
        view = context.new_page()
        view.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        view.on("pageerror", lambda error: troubles.append(str(error)))
        view.on(
            "request",
            lambda request: troubles.extend(
                [request.url]
                * (request.url != path.as_uri() and not request.url.startswith(("data:", "blob:")))
            ),
        )
        view.goto(path.as_uri())
        # Not by a function that Playwright asks again: the page forbids eval.
        view.locator(".js-plotly-plot .legend").first.wait_for(state="attached")
        return view

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def headings(view: Any, kind: str) -> list[str]:
    found: list[str] = view.locator(f'section[data-kind="{kind}"] .card h3').all_inner_texts()
    return found


def cases(view: Any) -> list[str]:
    found: list[str] = view.locator("#cases tbody tr.row td:first-child").all_inner_texts()
    return [words.removeprefix("▸ ").removeprefix("▾ ") for words in found]


@pytest.mark.slow
@in_browser
def test_the_answer_is_at_the_top_and_the_crossing_is_that_of_the_records(opened: Any) -> None:
    view = opened()
    first = view.locator("#headlines .answer p").first.inner_text()
    assert first.startswith("On this machine the GPU wins matvec from somewhere between n = 1024 and 4096")
    band = view.evaluate(
        "document.querySelector('section[data-kind=time] .plot').data"
        ".find((trace) => trace.meta.role === 'crossing').x"
    )
    assert (min(band), max(band)) == (1024, 4096)
    devices = view.locator("#devices span").all_inner_texts()
    assert devices == ["CPU AMD EPYC, 8 cores", "GPU NVIDIA H200"]


@pytest.mark.slow
@in_browser
def test_filters_and_the_metric_change_what_is_shown(opened: Any) -> None:
    view = opened()
    assert len(cases(view)) == 7  # float64 waits to be asked for
    assert headings(view, "time") == ["matvec", EVIL]
    assert view.locator("#count").inner_text() == "7 of 9 cases"
    view.check("input[value=float64]", force=True)
    assert len(cases(view)) == 9
    view.uncheck("input[value=float32]", force=True)
    assert cases(view) == ["matvec 256 float64", "matvec 1024 float64"]
    assert headings(view, "time") == ["matvec"]
    plot = "document.querySelector('section[data-kind=time] .plot')"
    assert view.evaluate(f"{plot}.data.filter((t) => t.meta.role === 'data').map((t) => t.name)") == [
        "CPU",
        "GPU",
    ]
    before = view.evaluate(f"{plot}.data[0].y[0]")
    view.select_option("#metric", "device")
    view.locator("section[data-kind=time] .js-plotly-plot").wait_for()  # it is drawn once it is seen
    assert view.evaluate(f"{plot}.data[0].y[0]") == pytest.approx(0.75 * before, rel=1e-3)
    assert view.locator("#cases tbody td").nth(1).inner_text() == "225 µs"
    view.get_by_text("Show everything").click()
    assert len(cases(view)) == 9
    view.fill("#find", "matvec 1024")
    assert cases(view) == ["matvec 1024", "matvec 1024 float64"]


@pytest.mark.slow
@in_browser
def test_lines_that_only_a_parameter_tells_apart_have_it_in_their_names(opened: Any, tmp_path: Path) -> None:
    """And times as fast are told in ones, however few they are."""
    records = [
        record
        for batch in (32, 512)
        for record in pairs({64: 0.4}, moved_s=1e-9, case={"workload": "mlp", "params": {"batch": batch}})
    ]
    view = opened(write_page(records, tmp_path / "report.html"))
    shown = (
        "Array.from(document.querySelectorAll('section[data-kind={}] .plot {}')).map((t) => t.textContent)"
    )
    names = view.evaluate(shown.format("time", ".legendtext"))
    assert sorted(names) == ["CPU batch=32", "CPU batch=512", "GPU batch=32", "GPU batch=512"]
    view.locator("section[data-kind=speedup] .js-plotly-plot").first.wait_for()
    ticks = view.evaluate(shown.format("speedup", ".ytick text"))
    assert "0.4x" in ticks
    assert not any("m" in tick for tick in ticks)


@pytest.mark.slow
@in_browser
def test_the_table_sorts_by_keyboard_and_a_row_opens_to_its_record(opened: Any) -> None:
    view = opened()
    view.get_by_role("button", name="speedup [95%]").focus()
    view.keyboard.press("Enter")
    assert cases(view)[0] == "matvec 256"
    assert cases(view)[-1] == "matvec 8"  # what has none stands last
    view.keyboard.press("Enter")
    assert cases(view)[0] == "matvec 16384"
    assert view.locator("th[aria-sort=descending]").inner_text().startswith("speedup")
    row = view.get_by_role("button", name="▸ matvec 256", exact=True)
    row.focus()
    view.keyboard.press("Enter")
    record = view.locator("tr.more")
    assert "python -m jaxaccel.run workload=matvec device=cpu size=256 dtype=float32" in record.inner_text()
    record.locator("summary").first.click()
    assert "cpu.model" in record.inner_text()
    assert "jax_enable_x64" in record.inner_text()
    record.get_by_role("button", name="Show its samples").click()
    assert headings(view, "samples") == ["matvec 256 on the gpu"]


@pytest.mark.slow
@in_browser
def test_names_that_are_markup_are_shown_as_they_are(opened: Any) -> None:
    view = opened()
    assert view.locator("#headlines h3", has_text=EVIL).count() == 1
    assert view.locator("img[src=x]").count() == 0
    view.get_by_role("button", name="▸ matvec 8", exact=True).click()
    assert EVIL in view.locator("tr.more .bad").inner_text()


@pytest.mark.slow
@in_browser
def test_every_section_has_its_figure_and_it_can_be_saved(opened: Any) -> None:
    view = opened()
    for kind in ("time", "speedup", "parts", "roofline", "energy", "cost", "samples"):
        section = view.locator(f'section[data-kind="{kind}"]')
        section.scroll_into_view_if_needed()
        section.locator(".js-plotly-plot").first.wait_for()
    with view.expect_download() as waiting:
        view.locator('section[data-kind="speedup"] .card').first.get_by_text("PNG").click()
    assert waiting.value.suggested_filename == "speedup-matvec-float32-highest.png"
    assert Path(waiting.value.path()).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@in_browser
def test_dark_light_and_a_narrow_window(opened: Any) -> None:
    view = opened(color_scheme="dark")
    card = "document.querySelector('.js-plotly-plot').layout.paper_bgcolor"
    assert view.evaluate(card) == "#1b1e22"
    view.get_by_role("button", name="Light").click()
    assert view.evaluate(card) == "#ffffff"
    colours = view.evaluate(
        "document.querySelector('.js-plotly-plot').data.slice(0, 2).map((t) => t.line.color)"
    )
    assert colours == ["#0072b2", "#d55e00"]
    view.set_viewport_size({"width": 360, "height": 740})
    view.wait_for_timeout(300)
    assert view.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.slow
@in_browser
def test_a_page_without_a_measurement_opens_too(opened: Any, browser: Any, tmp_path: Path) -> None:
    errors: list[str] = []
    for name, records in (("none", []), ("failed", [make_failed("gpu", message="no such GPU")])):
        path = write_page(records, tmp_path / f"{name}.html")
        context = browser.new_context()
        view = context.new_page()
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("console", lambda message: errors.append(message.text))
        view.goto(path.as_uri())
        view.locator("#foot", has_text="Written by jaxaccel").wait_for()
        assert view.locator("#count").inner_text() == f"{len(records)} of {len(records)} cases"
        assert "There are no cases." in view.inner_text("#headlines") or records
        context.close()
    assert errors == []
