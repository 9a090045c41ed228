"""Sketches of outputs, and what two devices' sketches say of how far their outputs are apart."""

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from fakes import make_case, make_failed, make_record

from jaxaccel.analyze.agreement import agreement, difference, of_pair
from jaxaccel.analyze.compare import compare
from jaxaccel.records import Accuracy, Cost, Record, decode_record, encode_record
from jaxaccel.render.rows import row
from jaxaccel.render.terminal import make_console, show_comparisons, show_records
from jaxaccel.worker import sketch as sketches
from jaxaccel.worker.sketch import PROJECTIONS, sketch, sketch_leaf


def numbers(size: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


def record(device: str, output: Any, *, tolerance: float = 1e-4, **changes: Any) -> Record:
    accuracy = Accuracy(
        relative_error=None, tolerance=tolerance, ok=None, reference=None, sketch=sketch(output)
    )
    return make_record(device, accuracy=accuracy, **changes)


# --- a sketch --------------------------------------------------------------------------------------


def test_a_sketch_is_the_same_each_time_and_holds_the_norm() -> None:
    one, other = sketch_leaf(numbers()), sketch_leaf(numbers())
    assert one == other
    assert one.norm == pytest.approx(np.linalg.norm(numbers()))
    assert (one.elements, one.shape, one.dtype) == (1000, (1000,), "float64")
    assert len(one.projections) == PROJECTIONS == 16


def test_a_sketch_is_these_very_numbers_on_every_machine() -> None:
    found = sketch_leaf(np.arange(1.0, 5.0))
    assert found.projections == (2, -2, 8, 4, 10, -2, -2, 2, 0, 8, -10, 4, 6, 6, -2, 4)


@pytest.mark.parametrize("relative", [1e-1, 1e-4, 1e-7])
@pytest.mark.parametrize("sparse", [False, True])
def test_it_estimates_a_known_difference_within_a_factor(relative: float, sparse: bool) -> None:
    x = numbers(5000)
    ratios = []
    for seed in range(1, 41):
        apart = np.zeros_like(x)
        if sparse:
            apart[seed * 7 : seed * 7 + 2] = numbers(2, seed)
        else:
            apart = numbers(5000, seed)
        apart *= relative * np.linalg.norm(x) / np.linalg.norm(apart)
        ratios.append(difference(sketch_leaf(x), sketch_leaf(x + apart)) / relative)
    assert 0.5 < min(ratios) <= max(ratios) < 2
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)
    assert np.std(ratios) < 0.25  # 18% of dense ones


def test_of_a_large_array_evenly_spread_elements_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "ELEMENTS", 11)
    found = sketch_leaf(np.arange(101.0))
    assert found.elements == 11
    assert found.norm == pytest.approx(np.linalg.norm(np.arange(0, 101, 10.0)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_narrow_types_are_projected_in_float64(dtype: str) -> None:
    x = np.ones(70_000, jnp.dtype(dtype))
    assert sketch_leaf(x).norm == pytest.approx(math.sqrt(70_000))


def test_complex_numbers_are_pairs_and_integers_are_hashed() -> None:
    assert sketch_leaf(np.array([3 + 4j])).norm == pytest.approx(5)
    whole = sketch_leaf(np.arange(5))
    assert (whole.norm, whole.projections) == (None, ())
    assert whole.digest != sketch_leaf(np.arange(1, 6)).digest
    assert whole.digest == sketch_leaf(np.arange(5)).digest


def test_what_is_not_finite_is_counted_and_can_be_written() -> None:
    found = sketch_leaf(np.array([1.0, np.nan, np.inf]))
    assert (found.not_finite, found.norm) == (2, 1.0)
    whole = record("cpu", np.array([1.0, np.nan, np.inf]))
    assert decode_record(encode_record(whole)) == whole


# --- two of them -----------------------------------------------------------------------------------


def test_equal_outputs_agree_and_others_do_not() -> None:
    x = numbers()
    same = agreement(record("cpu", x), record("gpu", x))
    assert same is not None
    assert same.agrees
    assert same.relative_difference == 0
    near = agreement(record("cpu", x), record("gpu", x * (1 + 1e-6)))
    assert near is not None
    assert near.agrees
    assert near.relative_difference == pytest.approx(1e-6, rel=0.5)
    far = agreement(record("cpu", x), record("gpu", x * 1.01))
    assert far is not None
    assert not far.agrees
    assert far.words is not None
    assert far.words.startswith("the two devices do not compute the same: their outputs differ by")


def test_the_worst_of_several_arrays_counts() -> None:
    x = numbers()
    found = agreement(record("cpu", {"a": x, "b": x}), record("gpu", {"a": x, "b": 1.1 * x}))
    assert found is not None
    assert found.relative_difference == pytest.approx(0.1, rel=0.5)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (np.arange(3), np.arange(1, 4), "the integers of the output are not equal"),
        (np.zeros(3), np.zeros(4), "other shapes or types"),
        (np.zeros(3, np.float32), np.zeros(3), "other shapes or types"),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan]), "0 and 1 elements of the output are not finite"),
    ],
)
def test_what_can_not_be_told_in_a_number_is_told_in_words(one: Any, other: Any, words: str) -> None:
    found = agreement(record("cpu", one), record("gpu", other))
    assert found is not None
    assert found.relative_difference is None
    assert not found.agrees
    assert words in str(found.words)


def test_zeros_agree_with_zeros() -> None:
    found = agreement(record("cpu", np.zeros(3)), record("gpu", np.zeros(3)))
    assert found is not None
    assert found.relative_difference == 0


def test_without_two_sketches_nothing_is_said() -> None:
    x = record("cpu", numbers())
    assert agreement(x, None) is None
    assert agreement(x, make_record("gpu")) is None
    assert agreement(x, make_failed("gpu")) is None
    assert agreement(make_record("cpu"), make_record("gpu")) is None


def test_records_of_two_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="different cases"):
        agreement(record("cpu", numbers()), record("gpu", numbers(), case=make_case(7)))


# --- where it is shown -----------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *records: Record) -> str:
    show_records(make_console(), records)
    return capsys.readouterr().out


def test_one_record_without_a_reference_says_that_it_is_unchecked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unchecked: no reference" in shown(capsys, record("cpu", numbers()))


def test_a_pair_shows_the_difference_of_its_devices(capsys: pytest.CaptureFixture[str]) -> None:
    x = numbers()
    said = " ".join(shown(capsys, record("cpu", x), record("gpu", x)).split())
    assert "0.0e+00 between" in said
    assert "do not compute the same" not in said
    said = shown(capsys, record("cpu", x), record("gpu", 2 * x))
    assert "! the two devices do not compute the same" in said


def test_a_sweep_shows_it_as_its_error_and_marks_what_is_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    x = numbers()
    good = compare(record("cpu", x), record("gpu", x * (1 + 1e-6)))
    show_comparisons(make_console(), [good])
    said = capsys.readouterr().out
    assert "e-0" in said
    assert "‡" not in said
    bad = compare(record("cpu", x), record("gpu", x * 1.5))
    show_comparisons(make_console(), [bad])
    said = capsys.readouterr().out
    assert "‡ the two devices do not compute the same" in said
    assert row(bad)["different"].startswith("the two devices")
    assert row(good)["between_devices"] == pytest.approx(1e-6, rel=0.5)
    assert of_pair(good) is not None


def test_where_work_comes_from_is_shown_where_nobody_declared_it(capsys: pytest.CaptureFixture[str]) -> None:
    plain = make_record("cpu")
    assert "(by " not in shown(capsys, plain)
    counted = replace(plain, cost=Cost(flops=2e6, bytes=None, source="XLA, loops once"))
    assert "2e+06 FLOP, – (by XLA, loops once)" in shown(capsys, counted)


def test_records_from_before_load_with_what_they_have() -> None:
    import json

    old = json.loads(encode_record(make_record("cpu")))
    del old["cost"]["source"], old["accuracy"]["sketch"]
    found = decode_record(json.dumps(old))
    assert found.cost is not None
    assert found.cost.source == "declared"
    assert found.accuracy is not None
    assert found.accuracy.sketch == ()


# --- what a few numbers might hide -----------------------------------------------------------------


def test_nans_in_other_places_or_of_other_kinds_are_not_the_same() -> None:
    x = np.ones(100)
    first, second, third = x.copy(), x.copy(), x.copy()
    first[3], second[4], third[3] = np.nan, np.nan, np.inf
    for other in (second, third):
        found = agreement(record("cpu", first), record("gpu", other))
        assert found is not None
        assert "the places of the NaN or infinite elements" in str(found.words)
    same = agreement(record("cpu", first), record("gpu", first.copy()))
    assert same is not None
    assert same.agrees


def test_one_nan_is_seen_wherever_it_is_in_a_large_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "ELEMENTS", 11)
    x = np.arange(101.0)
    x[51] = np.nan  # none of the eleven
    assert sketch_leaf(x).not_finite == 1


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_squares_that_float64_has_not_are_no_matter(size: float) -> None:
    x = size * numbers()
    assert sketch_leaf(x).norm == pytest.approx(size * np.linalg.norm(numbers()))
    assert difference(sketch_leaf(x), sketch_leaf(2 * x)) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_infinite_elements_of_narrow_types_are_found(dtype: str) -> None:
    found = sketch_leaf(np.array([1.0, np.inf, -np.inf, np.nan]).astype(jnp.dtype(dtype)))
    assert (found.not_finite, found.norm) == (3, 1.0)


def test_each_array_is_held_to_the_tolerance_of_its_type() -> None:
    def told(wide: float, narrow: float) -> Any:
        sides = [
            {"wide": numbers(), "narrow": numbers()},
            {"wide": numbers() * (1 + wide), "narrow": numbers() * (1 + narrow)},
        ]
        made = [record(device, side).accuracy for device, side in zip(("cpu", "gpu"), sides, strict=True)]
        limits = {"['wide']": 1e-6, "['narrow']": 1e-2}
        records = [
            make_record(
                device,
                accuracy=replace(
                    accuracy,
                    tolerance=1e-2,
                    sketch=tuple(replace(leaf, tolerance=limits[leaf.path]) for leaf in accuracy.sketch),
                ),
            )
            for device, accuracy in zip(("cpu", "gpu"), made, strict=True)
            if accuracy
        ]
        return agreement(*records)

    assert told(1e-8, 1e-3).agrees
    assert not told(1e-4, 1e-8).agrees
    assert told(1e-4, 1e-3).tolerance == 1e-6  # the one that is over it, though the other differs more
    assert not told(1e-8, 1e-1).agrees


def test_devices_that_were_given_other_numbers_are_not_compared() -> None:
    sides = [record(device, numbers()) for device in ("cpu", "gpu")]
    given = [
        replace(side, accuracy=replace(side.accuracy, inputs=digest))
        for side, digest in zip(sides, ("one", "other"), strict=True)
        if side.accuracy
    ]
    found = agreement(*given)
    assert found is not None
    assert "other" in str(found.words)
    assert "the function that makes the arguments" in str(found.words)
    assert sketches.digest_of((numbers(), np.ones(1))) == sketches.digest_of((numbers(), np.ones(1)))
    changed = numbers()
    changed[5] += 1e-15
    assert sketches.digest_of((numbers(), np.ones(1))) != sketches.digest_of((changed, np.ones(1)))


def test_what_is_zero_but_for_rounding_beside_larger_arrays_is_no_difference() -> None:
    """As the gradient of a bias that softmax takes out again (experiments/own_code)."""

    def judged(factor: float, small: float) -> Any:
        sides = [{"large": numbers(), "small": small * numbers(8, seed)} for seed in (1, 2)]
        made = [
            sketch(side, lambda _: 1e-4, lambda _, rms, size: factor * rms * math.sqrt(size))
            for side in sides
        ]
        records = [
            make_record(
                device,
                accuracy=Accuracy(
                    relative_error=None, tolerance=1e-4, ok=None, reference=None, sketch=leaves
                ),
            )
            for device, leaves in zip(("cpu", "gpu"), made, strict=True)
        ]
        return agreement(*records)

    assert judged(1e-6, 1e-9).agrees
    assert not judged(0.0, 1e-9).agrees
    assert not judged(1e-6, 1e-2).agrees
