import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from fakes import make_case, make_failed, make_record, make_timing
from pictured import SIZES, arm, pairs

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.money import Prices
from jaxaccel.records import Flag, Record
from jaxaccel.render import figures
from jaxaccel.render.figures.drawing import COLOURS, SYMBOLS, Drawing, log_axis, seconds_tick, size_axis
from jaxaccel.render.figures.parts import parts_of
from jaxaccel.render.figures.samples import draw_record, draw_samples, flagged

CROSSING = {256: 0.25, 1024: 0.5, 4096: 4.0, 16384: 16.0}
PRICES = Prices(per_hour={"cpu": 1.0, "gpu": 3.0}, date="2026-01-02", currency="EUR")


def drawn(records: list[Record], prices: Prices | None = None) -> dict[str, Drawing]:
    return {one.name: one for one in figures.draw(records, families(pair(records)), prices)}


def data_of(drawing: Drawing) -> list[dict[str, Any]]:
    return [trace for trace in drawing.data if trace["meta"]["role"] == "data"]


def test_a_tracker_gets_figures_by_name_that_plotly_takes() -> None:
    flag = Flag(name="bimodal", metric="latency", message="two groups")
    records = [replace(record, warnings=(flag,)) for record in pairs(CROSSING)]
    found = figures.build(records, PRICES)
    assert {name.partition("/")[0] for name in found} == {
        "latency", "throughput", "device", "end_to_end", "h2d", "d2h",
        "speedup", "parts", "roofline", "energy", "cost", "samples",
    }  # fmt: skip
    plain = drawn(records, PRICES)
    for name in plain:
        assert json.loads(found[name].to_json())["data"] == json.loads(json.dumps(plain[name].data))
    assert sum(name.startswith("samples/") for name in found) == 8
    assert sum(name.startswith("samples/") for name in figures.build(records, samples=1)) == 1


def test_plotly_is_loaded_only_to_build(tmp_path: Any) -> None:
    look = (
        "import sys\n"
        "from pictured import pairs\n"
        "from jaxaccel.analyze.compare import pair\n"
        "from jaxaccel.analyze.findings import families\n"
        "from jaxaccel.render import figures, page\n"
        "records = pairs({256: 2.0})\n"
        "figures.draw(records, families(pair(records)))\n"
        "assert 'plotly' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", look], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_times_are_medians_in_seconds_with_their_intervals() -> None:
    records = pairs(CROSSING)
    cpu, gpu = data_of(drawn(records)["latency/matvec"])
    assert (cpu["name"], gpu["name"]) == ("CPU", "GPU")
    assert cpu["x"] == list(SIZES)
    assert cpu["y"] == pytest.approx([1e-4 * ratio for ratio in CROSSING.values()], rel=1e-3)
    interval = records[0].timings["latency"].ci95_s
    assert interval is not None
    assert cpu["y"][0] + cpu["error_y"]["array"][0] == pytest.approx(interval[1], rel=1e-3)
    assert cpu["y"][0] - cpu["error_y"]["arrayminus"][0] == pytest.approx(interval[0], rel=1e-3)
    assert "25.0 µs [" in cpu["hovertext"][0]


def test_the_crossing_is_marked_where_the_records_have_it() -> None:
    (band,) = [t for t in drawn(pairs(CROSSING))["latency/matvec"].data if t["meta"]["role"] == "crossing"]
    assert (min(band["x"]), max(band["x"])) == (1024, 4096)
    assert band["text"] == "CPU → GPU: between n = 1024 and 4096"
    rough = drawn(pairs({256: 0.9, 1024: 1.2}, passes=1))["latency/matvec"].data
    (band,) = [trace for trace in rough if trace["meta"]["role"] == "crossing"]
    assert band["name"] == "CPU → GPU by medians only"
    throughout = drawn(pairs({256: 2.0, 1024: 3.0}))["latency/matvec"].data
    assert not [trace for trace in throughout if trace["meta"]["role"] == "crossing"]


def test_devices_keep_their_colour_and_shape_in_all_figures() -> None:
    assert len(set(COLOURS.values())) == len(set(SYMBOLS.values())) == 2
    records = pairs(CROSSING) + pairs(CROSSING, case={"dtype": "float64"})
    found = drawn(records, PRICES)
    for kind in ("latency", "device", "cost"):
        for trace in data_of(found[f"{kind}/matvec"]):
            device = trace["meta"]["short"].lower()
            assert trace["line"]["color"] == trace["marker"]["color"] == COLOURS[device]
            assert trace["marker"]["symbol"] == SYMBOLS[device]
    dashes = {(t["meta"]["dtype"], t["line"]["dash"]) for t in data_of(found["latency/matvec"])}
    assert dashes == {("float32", "solid"), ("float64", "dash")}
    for device in COLOURS:
        assert {t["marker"]["color"] for t in data_of(found[f"roofline/{device}"])} == {COLOURS[device]}


@pytest.mark.parametrize("colour", COLOURS.values())
def test_the_devices_colours_can_be_seen_on_light_and_on_dark(colour: str) -> None:
    def luminance(colour: str) -> float:
        shares = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return sum(part * share for part, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for card in ("#ffffff", "#1b1e22"):
        low, high = sorted((luminance(colour), luminance(card)))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_speedups_are_drawn_for_each_place_of_the_data_with_the_line_at_1() -> None:
    drawing = drawn(pairs(CROSSING))["speedup/matvec float32 highest"]
    lines = {trace["name"]: trace for trace in drawing.data}
    assert list(lines) == ["resident", "once for 100 calls", "once for 10 calls", "every call"]
    assert lines["resident"]["y"] == pytest.approx(list(CROSSING.values()), rel=1e-3)
    assert max(lines["every call"]["y"]) < 1
    assert len({trace["line"]["dash"] for trace in lines.values()}) == len(lines)
    (line,) = drawing.layout["shapes"]
    assert (line["y0"], line["y1"]) == (1, 1)


def test_what_is_not_sure_has_an_open_shape() -> None:
    drawing = drawn(pairs({256: 0.9, 1024: 4.0}, passes=1))["speedup/matvec float32 highest"]
    assert drawing.data[0]["marker"]["symbol"] == ["circle-open", "circle"]


def test_parts_add_up_to_the_call_with_its_transfers() -> None:
    record = arm("gpu", 256, 1e-4, moved_s=1e-3)
    parts = parts_of(record)
    assert parts == pytest.approx(
        {
            "dispatch": 1e-5,
            "beyond dispatch": 1.5e-5,
            "compute": 7.5e-5,
            "transfer in": 1e-3,
            "transfer out": 2.5e-4,
        },
        rel=1e-3,
    )
    drawing = drawn([record])["parts/matvec float32 highest"]
    assert sum(trace["x"][0] for trace in data_of(drawing)) == pytest.approx(100, abs=0.1)
    assert drawing.data[-1]["text"] == ["1.35 ms"]


def test_the_roofline_has_the_measured_ceilings_and_every_case() -> None:
    records = pairs(CROSSING)
    drawing = drawn(records)["roofline/gpu"]
    (compute,) = [trace for trace in drawing.data if trace["meta"]["role"] == "ceiling"]
    (memory,) = [trace for trace in drawing.data if trace["meta"]["role"] == "memory"]
    assert set(compute["y"]) == {5e11}
    assert [y / x for x, y in zip(memory["x"], memory["y"], strict=True)] == pytest.approx([1e11, 1e11])
    assert memory["y"][1] == pytest.approx(5e11)  # the ridge
    (points,) = data_of(drawing)
    assert points["x"] == [0.5] * len(SIZES)
    assert points["y"] == [2.5e10] * len(SIZES)


def test_energy_and_cost_are_drawn_only_where_there_are_any() -> None:
    records = pairs(CROSSING)
    energy = drawn(records)["energy/matvec"]
    assert [trace["name"] for trace in energy.data] == ["GPU, all", "GPU, above idle"]
    assert energy.data[0]["y"] == [0.0125] * len(SIZES)
    without = drawn([replace(record, energy=None) for record in records])
    assert not [name for name in without if name.startswith(("energy/", "cost/"))]
    cost = drawn(records, PRICES)["cost/matvec"]
    assert data_of(cost)[1]["y"] == pytest.approx([3.0 * 1e6 * 0.9e-4 / 3600] * len(SIZES), rel=1e-3)
    assert "(EUR)" in cost.layout["yaxis"]["title"]["text"]


def test_samples_are_in_order_by_pass_and_none_of_the_ends_hides() -> None:
    samples = [1e-4 + 1e-7 * (index % 7) for index in range(3000)]
    samples[1234] = 9e-4
    record = make_record("gpu", timings={"latency": make_timing([samples], [samples])}, warnings=())
    drawing = draw_record(record, "latency", points=100)
    first, second = drawing.data
    assert (first["name"], second["name"]) == ("pass 1", "pass 2")
    assert first["marker"]["symbol"] != second["marker"]["symbol"]
    assert len(first["x"]) + len(second["x"]) <= 110
    assert first["x"] == sorted(first["x"])
    assert max(first["x"]) <= 3000 < min(second["x"])
    assert dict(zip(first["x"], first["y"], strict=True))[1235] == 9e-4
    assert "of 6000" in drawing.note


def test_only_arms_that_one_should_look_at_twice_show_their_samples() -> None:
    severe = Flag(name="bimodal", metric="throughput", message="two groups")
    mild = Flag(name="noisy", metric="latency", message="12%")
    one, other = arm("cpu", 256, 1e-4), arm("cpu", 512, 1e-4)
    assert flagged([one, replace(other, warnings=(mild,))]) == []
    (drawing,) = draw_samples([replace(one, warnings=(mild, severe)), other])
    assert drawing.title == "matvec 256 on the cpu: samples of throughput"


def test_each_machine_is_a_line_of_its_own() -> None:
    far = {"host_id": "far", "cpu": {"model": "Xeon", "cores": 64}}
    records = pairs(CROSSING) + pairs({256: 2.0, 1024: 2.0}, environment=far, sweep_id="far", pair_id="far")
    found = drawn(records)
    lines = {trace["name"]: trace["y"] for trace in data_of(found["latency/matvec"])}
    assert list(lines) == ["CPU (A)", "CPU (B)", "GPU (A)", "GPU (B)"]
    assert lines["CPU (B)"] == pytest.approx([2e-4, 2e-4], rel=1e-3)
    assert {name for name in found if name.startswith("roofline")} == {
        "roofline/cpu on A", "roofline/cpu on B", "roofline/gpu on A", "roofline/gpu on B",
    }  # fmt: skip


def test_names_of_records_are_text_in_every_figure() -> None:
    records = pairs(CROSSING, case={"workload": "<b>x</b>&", "dtype": "float32"})
    for figure in figures.build(records, PRICES).values():
        for words in _plotly_words(json.loads(figure.to_json())):
            assert "<b>x" not in words


def _plotly_words(value: Any, key: str = "") -> list[str]:
    """All strings that Plotly renders."""
    if key == "meta":
        return []
    if isinstance(value, dict):
        return [words for name, inner in value.items() for words in _plotly_words(inner, name)]
    if isinstance(value, list):
        return [words for inner in value for words in _plotly_words(inner, key)]
    return [value] if isinstance(value, str) else []


def test_there_is_nothing_to_draw_of_nothing() -> None:
    assert figures.build([]) == {}
    assert figures.build([make_failed("gpu")]) == {}


def test_one_arm_alone_is_drawn_without_a_speedup() -> None:
    found = drawn([arm("cpu", size, 1e-4) for size in SIZES])
    assert {"latency/matvec", "parts/matvec float32 highest", "roofline/cpu"} <= set(found)
    assert not [name for name in found if name.startswith("speedup/")]


# --- axes ------------------------------------------------------------------------------------------


def test_sizes_have_ticks_at_powers_of_two() -> None:
    assert size_axis([256, 4096])["ticktext"] == ["256", "512", "1024", "2048", "4096"]
    large = size_axis([1 << 15, 1 << 29])
    assert large["ticktext"][0] == "2<sup>15</sup>"
    assert all(math.log2(tick).is_integer() for tick in large["tickvals"])
    assert len(large["tickvals"]) <= 6
    assert size_axis([1000, 1500])["ticktext"] == ["1000", "1500"]
    assert size_axis([7])["ticktext"] == ["7"]


def test_times_have_ticks_with_units() -> None:
    wide = log_axis([1e-5, 1e-2], "time", seconds_tick)
    assert {"10 µs", "100 µs", "1 ms", "10 ms"} <= set(wide["ticktext"])
    narrow = log_axis([1.1e-4, 1.3e-4], "time", seconds_tick)
    assert {"100 µs", "120 µs", "150 µs"} <= set(narrow["ticktext"])
    assert make_case().family == "matvec float32 highest"
