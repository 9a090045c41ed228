import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_args

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from fakes import (
    DEVICE_TIME,
    ENERGY,
    facts_of,
    failure,
    make_case,
    make_failed,
    make_record,
    opened,
    started,
)

from jaxaccel.records import (
    RESIDENT,
    Accuracy,
    Arm,
    Case,
    Comparison,
    Cost,
    Memory,
    Metric,
    Record,
    Spent,
    Status,
    Trial,
    decode_record,
    digest,
    encode_record,
)
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Dump,
    Dumped,
    Inspect,
    Inspected,
    Message,
    Open,
    Round,
    Unavailable,
    decode_message,
    encode_message,
)
from jaxaccel.worker.checks import refuse_wrong
from jaxaccel.worker.timing import InvariantError
from jaxaccel.workloads.base import Outcome

# --- records as JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [make_record("cpu"), make_record("gpu"), make_failed()])
def test_a_record_comes_back_from_json_as_it_was(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


def test_a_record_comes_back_even_after_other_tools_reformatted_it() -> None:
    record = make_record()
    assert decode_record(json.dumps(json.loads(encode_record(record)), indent=2)) == record


def test_keys_are_in_the_order_of_the_class_with_the_identity_first_and_the_reasons_last() -> None:
    keys = list(json.loads(encode_record(make_record())))
    assert keys == [field.name for field in fields(Record)]
    assert keys[:4] == ["schema_version", "jaxaccel_version", "started_at", "command"]
    told = ["case_id", "arm_id", "pair_id", "arm", "status", "timings", "cost", "accuracy", "spent_s"]
    assert [key for key in keys if key in told] == told
    assert keys[-2:] == ["warnings", "absent"]


def test_what_is_unknown_is_null_and_its_key_is_there() -> None:
    raw = json.loads(encode_record(make_failed()))
    for name in ("compile", "first_call_s", "cost", "rates", "accuracy", "memory"):
        assert raw[name] is None
    assert raw["arm"]["kind"] is None
    assert raw["absent"] == {"timings": "failed: see error"}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_no_infinity_and_no_nan_is_ever_written(value: float) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    record = replace(make_record(), environment={"load": value}, first_call_s=value)
    raw = json.loads(encode_record(record), parse_constant=refuse)
    assert raw["environment"] == {"load": None}
    assert raw["first_call_s"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 1}', '"record"'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(text)


def test_a_record_of_the_wrong_type_is_refused_where_it_is_wrong() -> None:
    raw = json.loads(encode_record(make_record())) | {"first_call_s": "soon"}
    with pytest.raises(msgspec.ValidationError, match="first_call_s"):
        decode_record(json.dumps(raw))


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make_record().status = Status.failed  # type: ignore[misc]


# --- what pairs ------------------------------------------------------------------------------------


def test_the_order_of_parameters_does_not_change_a_case() -> None:
    first = make_case(params={"batch": 512, "depth": 3})
    assert first.case_id == make_case(params={"depth": 3, "batch": 512}).case_id


def test_no_device_is_part_of_a_case() -> None:
    assert "device" not in {field.name for field in fields(Case)}
    arms = [Arm(case=make_case(), device=device, target="x:Y") for device in ("cpu", "gpu")]
    assert arms[0].case.case_id == arms[1].case.case_id


OTHER = {
    "workload": "dot",
    "size": 1025,
    "dtype": "float64",
    "precision": "high",
    "variant": "einsum",
    "params": {"batch": 1},
    "seed": 1,
}


@pytest.mark.parametrize("name", [field.name for field in fields(Case)])
def test_every_field_of_a_case_changes_its_id(name: str) -> None:
    assert replace(make_case(), **{name: OTHER[name]}).case_id != make_case().case_id


def test_case_ids_stay_what_they_were_when_records_were_published() -> None:
    case = Case(
        workload="mlp",
        size=1024,
        dtype="float32",
        precision="highest",
        variant="direct",
        params={"batch": 512},
        seed=0,
    )
    # sha256 of {"dtype":"float32","params":{"batch":512},"precision":"highest","seed":0,"size":1024,
    # "variant":"direct","workload":"mlp"}
    assert case.case_id == "bcb764577ea7"


def test_a_case_has_the_same_id_after_json() -> None:
    case = make_case(params={"batch": 512, "rate": 0.1, "name": "µ"})
    assert decode_record(encode_record(make_record(case=case))).case.case_id == case.case_id


def test_a_digest_is_twelve_hexadecimal_digits() -> None:
    found = digest({"a": [1, None, "x"]})
    assert len(found) == 12
    assert int(found, 16) >= 0


def test_a_case_in_words_tells_everything_but_the_seed() -> None:
    assert str(make_case(params={"batch": 512})) == "matvec 1024 batch=512 float32 highest"
    assert str(make_case(variant="einsum", dtype="float64")) == "matvec einsum 1024 float64 highest"


def test_the_arms_of_a_comparison_come_cpu_first_and_without_gaps() -> None:
    cpu, gpu = make_record("cpu"), make_record("gpu")
    assert Comparison(case=cpu.case, cpu=cpu, gpu=gpu).arms == (cpu, gpu)
    assert Comparison(case=cpu.case, cpu=None, gpu=gpu).arms == (gpu,)


def test_spent_time_adds_up_part_by_part() -> None:
    both = Spent(worker=1.0, sampling=2.0) + Spent(worker=4.0, reference=8.0, total=100.0)
    assert both == Spent(worker=5.0, sampling=2.0, reference=8.0, total=100.0)
    assert both.accounted == 15.0


# --- messages --------------------------------------------------------------------------------------

MESSAGES: list[Message] = [
    started("gpu"),
    Open(key="k", arm=Arm(case=make_case(params={"batch": 2}), device="gpu", target="package.module:Name")),
    replace(opened("gpu", absent={"memory": "unknown"}, metrics=tuple(Metric)), series={"loss": (1.0, 0.5)}),
    AskRound(key="k", metric=Metric.throughput),
    Round(samples_s=(1e-5, 1.25e-5), depth=8, spent_s=0.02, warmup_s=0.001, slowdowns=("sw_thermal",)),
    Unavailable(reason="there is too much noise"),
    Inspect(key="k", energy_s=2.0),
    Inspected(
        device_time=DEVICE_TIME["gpu"], energy=ENERGY["gpu"], spent_s=2.5, absent={"device_time.slope_s": "µ"}
    ),
    Dump(arm=Arm(case=make_case(), device="cpu", target="package.module:Name"), folder="here"),
    Dumped(takes=("float32[8,8]",), notes=("a word",), absent={"trace": "no profiler"}),
    Close(key="k"),
    Closed(),
    replace(failure("Refused", "two\nlines", hint="do µ", refused=True), environment={"host_id": "abc"}),
]


def test_every_kind_of_message_is_tried() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(Message))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was_from_exactly_one_line(message: Message) -> None:
    line = encode_message(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_message(line) == message


GARBAGE = {
    "nothing": b"\n",
    "no JSON": b"Segmentation fault\n",
    "cut short": encode_message(MESSAGES[0])[:-20],
    "no object": b"[1, 2]\n",
    "no kind": b'{"body":{"key":"k"}}',
    "an unknown kind": b'{"kind":"Sudo","body":{}}',
    "a kind of no text": b'{"kind":[],"body":{}}',
    "no body": b'{"kind":"Close"}',
    "a body of nothing": b'{"kind":"Close","body":null}',
    "a wrong type": b'{"kind":"Close","body":{"key":3}}',
    "a missing field": b'{"kind":"Round","body":{"samples_s":[1.0]}}',
    "no UTF-8": b'{"kind":"Close","body":{"key":"\xff"}}',
}


@pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE)
def test_a_line_without_a_message_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_message(line)


def test_an_arm_is_opened_for_resident_data_where_nothing_else_is_said() -> None:
    arm = Arm(case=make_case(), device="gpu", target="x:Y")
    assert decode_message(encode_message(Open(key="k", arm=arm))).metrics == RESIDENT
    two = Open(key="k", arm=arm, metrics=(Metric.d2h, Metric.h2d))
    assert decode_message(encode_message(two)).metrics == (Metric.d2h, Metric.h2d)


def test_what_the_device_is_survives_the_pipe() -> None:
    message = decode_message(encode_message(started("cpu", ready_at=1.5)))
    assert message.arm == facts_of("cpu")
    assert message.ready_at == 1.5


# --- what a workload's code gives ------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "Python's": False,
    "NumPy's": np.False_,
    "an array": np.array(False),
    "JAX's": jnp.asarray(False),
    "compared": np.float32(2.0) <= np.float64(1.0),
}


@pytest.mark.parametrize("ok", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("error", [2.0, np.float32(2.0), np.array(2.0), jnp.float32(2.0), jnp.bfloat16(2.0)])
def test_a_judgement_is_in_python_s_own_values(ok: Any, error: Any) -> None:
    accuracy = Accuracy(relative_error=error, tolerance=np.float16(1.0), ok=ok, reference="theirs")
    assert accuracy.ok is False
    assert (type(accuracy.relative_error), type(accuracy.tolerance)) == (float, float)
    with pytest.raises(InvariantError, match=r"differs from theirs by 2\.0e\+00"):
        refuse_wrong(accuracy)
    assert Accuracy(relative_error=0.0, tolerance=1.0, ok=np.True_, reference="theirs").ok is True


@pytest.mark.parametrize("error", [math.nan, np.float64("nan"), jnp.float32("nan"), math.inf, -math.inf])
@pytest.mark.parametrize("ok", [True, np.True_, None])
def test_an_error_that_is_no_number_is_a_wrong_answer(error: Any, ok: Any) -> None:
    accuracy = Accuracy(relative_error=error, tolerance=1.0, ok=ok, reference="theirs")
    with pytest.raises(InvariantError, match="not finite"):
        refuse_wrong(accuracy)


@pytest.mark.parametrize("ok", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_whose_error_nobody_gives_is_refused(ok: Any) -> None:
    with pytest.raises(InvariantError, match="not that of theirs"):
        refuse_wrong(Accuracy(relative_error=None, tolerance=1.0, ok=ok, reference="theirs"))


def test_an_error_that_nobody_judged_is_held_against_its_tolerance() -> None:
    judged = [
        Accuracy(relative_error=np.float32(error), tolerance=1.0, ok=None, reference=None).ok
        for error in (0.5, 2)
    ]
    assert judged == [True, False]
    assert Accuracy(relative_error=None, tolerance=1.0, ok=None, reference=None).ok is None


def test_numbers_of_any_library_can_be_sent() -> None:
    said = replace(
        opened("cpu"),
        cost=Cost(flops=np.int64(3), bytes=jnp.float32(4)),
        memory=Memory(predicted_bytes=np.int64(5), capacity_bytes=np.array(6)),
        variants={"direct": Trial(time_s=np.float32(0.5), ok=np.True_)},
        series={"loss": np.arange(2.0, dtype=np.float32), "other": (np.float32(1), jnp.float32(2))},
        results={"held out": np.float16(0.5), "rounds": jnp.int32(3)},
    )
    heard = decode_message(encode_message(said))
    assert (heard.cost.flops, heard.cost.bytes) == (3, 4)
    assert (heard.memory.predicted_bytes, heard.memory.capacity_bytes) == (5, 6)
    assert heard.variants == {"direct": Trial(time_s=0.5, ok=True)}
    assert heard.series == {"loss": (0.0, 1.0), "other": (1.0, 2.0)}
    assert heard.results == {"held out": 0.5, "rounds": 3}
    outcome = Outcome(accuracy=said.accuracy, series={"loss": [np.float32(1)]}, results={"a": np.float64(2)})
    assert [type(value) for value in (*outcome.series["loss"], outcome.results["a"])] == [float, float]
