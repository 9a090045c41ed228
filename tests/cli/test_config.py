from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from jaxaccel.cli.config import CeilingsMode, ResumeChanged, RunConfig, TimingConfig, WorkloadConfig
from jaxaccel.cli.parse import parse
from jaxaccel.records import Metric
from jaxaccel.records.precision import Dtype, Precision
from jaxaccel.wandb.config import WandbMode


def raw(**changes: Any) -> dict[str, Any]:
    """What Hydra composes. A change `group__key=value` goes into a group."""
    composed: dict[str, Any] = {
        "workload": {
            "name": "mlp",
            "_target_": "jaxaccel.workloads.mlp:Mlp",
            "default_size": 1024,
            "variant": "direct",
        },
        "device": {"name": "both", "arms": ["cpu", "gpu"]},
        "timing": {"relative_ci": 0.01, "limit_s": 1, "passes": 5, "energy_s": 2},
        "wandb": {"mode": "auto", "project": "jaxaccel", "entity": None},
        "size": 4096,
        "dtype": "float32",
        "precision": "highest",
        "seed": 0,
        "passes": 5,
        "metrics": "all",
        "ceilings": "auto",
        "resume": None,
        "wait_s": 600,
        "debug": False,
    }
    for name, value in changes.items():
        group, _, key = name.partition("__")
        if key:
            composed[group][key] = value
        else:
            composed[name] = value
    return composed


# --- what is accepted ------------------------------------------------------------------------------


def test_a_composed_config_becomes_a_case_and_its_arms() -> None:
    config = parse(raw(workload__batch=512, dtype="bfloat16", precision="high", seed=7))
    assert config.case.workload == "mlp"
    assert config.case.size == 4096
    assert config.case.dtype == "bfloat16"
    assert config.case.precision == "high"
    assert config.case.variant == "direct"
    assert config.case.seed == 7
    assert [arm.device for arm in config.arms] == ["cpu", "gpu"]
    assert {arm.case.case_id for arm in config.arms} == {config.case.case_id}
    assert {arm.target for arm in config.arms} == {"jaxaccel.workloads.mlp:Mlp"}


def test_other_keys_of_a_workload_are_its_parameters() -> None:
    assert parse(raw(workload__batch=512, workload__depth=3)).case.params == {"batch": 512, "depth": 3}


def test_a_parameter_that_was_added_later_is_one_only_where_it_is_given() -> None:
    """Or else nothing that was measured before would be the same case any more."""
    before = parse(raw(workload__features=None))
    assert before.case.params == {"features": None}
    assert parse(raw(workload__features=None, workload__steps=None)).case.case_id == before.case.case_id
    assert parse(raw(workload__steps=5)).case.params == {"steps": 5}


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (None, {}),
        ({}, {}),
        ({"cpu": None, "gpu": []}, {}),
        ({"cpu": {"xla_a": False, "--xla_b": 2}}, {"cpu": ("--xla_a=false", "--xla_b=2")}),
        ({"gpu": ["--xla_a=x,y", "--xla_c"]}, {"gpu": ("--xla_a=x,y", "--xla_c")}),
        ({"cpu": "--xla_a=1"}, {"cpu": ("--xla_a=1",)}),
    ],
)
def test_xla_s_flags_are_a_mapping_or_a_list_for_a_device(given: Any, flags: Any) -> None:
    config = parse(raw(device__flags=given))
    assert config.flags == flags
    assert config.case.case_id == parse(raw()).case.case_id


@pytest.mark.parametrize(
    "value",
    ["xla_a=1", "--xla_a=1 --xla_b=2", "--xla a", 3, 0, False, {"xla_a": "x y"}, {"xla_a": None}, ["-a"]],
)
def test_what_is_no_flag_of_xla_s_is_refused(value: Any) -> None:
    assert_refused({"device__flags": {"cpu": value}}, "`device.flags.cpu`", "must be XLA flags", "got ")


@pytest.mark.parametrize("value", [{"tpu": None}, ["--xla_a=1"], "--xla_a=1", 3])
def test_flags_are_for_a_device(value: Any) -> None:
    assert_refused({"device__flags": value}, "`device.flags`", "cpu or gpu", f"got {value!r}")


def test_the_default_size_is_no_parameter() -> None:
    assert parse(raw()).case.params == {}


def test_the_sizes_that_an_experiment_may_choose_from_are_no_parameter() -> None:
    assert parse(raw(workload__sizes=[1, 2, 3])).case.params == {}


def test_the_cores_of_the_cpu_are_no_part_of_the_case() -> None:
    assert parse(raw()).cpu_cores is parse(raw(device__cpu_cores=None)).cpu_cores is None
    kept = parse(raw(device__cpu_cores=2))
    assert kept.cpu_cores == 2
    assert kept.case == parse(raw()).case


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", True])
def test_the_cores_of_the_cpu_must_be_a_positive_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=f"`device.cpu_cores` must be a .*whole number, got {value!r}"):
        parse(raw(device__cpu_cores=value))


def test_parsing_leaves_what_it_was_given_as_it_was() -> None:
    given = raw(workload__batch=512)
    parse(given)
    assert given == raw(workload__batch=512)


@pytest.mark.parametrize(("value", "size"), [(1, 1), (4096, 4096), (1e6, 1_000_000), (256.0, 256)])
def test_a_whole_number_is_a_size_however_it_is_written(value: float, size: int) -> None:
    found = parse(raw(size=value)).size
    assert found == size
    assert type(found) is int  # its digits are part of the case's id
    assert parse(raw(size=value)).case.case_id == parse(raw(size=size)).case.case_id


@pytest.mark.parametrize("dtype", Dtype)
@pytest.mark.parametrize("precision", Precision)
def test_every_choice_that_is_offered_is_taken(dtype: Dtype, precision: Precision) -> None:
    config = parse(raw(dtype=str(dtype), precision=str(precision)))
    assert (config.dtype, config.precision) == (dtype, precision)


@pytest.mark.parametrize("mode", WandbMode)
def test_every_mode_of_wandb_is_taken(mode: WandbMode) -> None:
    assert parse(raw(wandb__mode=str(mode), wandb__entity="team")).wandb.mode is mode


@pytest.mark.parametrize("mode", CeilingsMode)
def test_every_mode_of_ceilings_is_taken(mode: CeilingsMode) -> None:
    assert parse(raw(ceilings=str(mode))).ceilings is mode


@pytest.mark.parametrize(
    ("value", "metrics"),
    [
        ("all", tuple(Metric)),
        ("latency", (Metric.latency,)),
        (["d2h_pinned"], (Metric.d2h_pinned,)),
        (["device", "latency"], (Metric.latency, Metric.device)),  # as they are measured
        (("latency", "latency"), (Metric.latency,)),
        ([str(metric) for metric in reversed(Metric)], tuple(Metric)),
    ],
)
def test_metrics_are_all_one_or_several_and_each_once(value: Any, metrics: tuple[Metric, ...]) -> None:
    assert parse(raw(metrics=value)).metrics == metrics


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 2, 599])
def test_energy_is_counted_for_as_many_seconds_as_one_likes(value: float) -> None:
    assert parse(raw(timing__energy_s=value)).timing.energy_s == value


def test_a_folder_to_resume_is_a_path_or_nothing(tmp_path: Path) -> None:
    assert parse(raw(resume=str(tmp_path))).resume == tmp_path
    assert parse(raw()).resume is None


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        parse(raw()).size = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["size", "seed", "passes", "wait_s", "timing__limit_s", "workload__batch"])
@pytest.mark.parametrize(("text", "number"), [("16", 16), ("1e3", 1000), ("+2", 2), ("4.0", 4)])
def test_a_number_may_come_as_a_text_as_from_a_variable(name: str, text: str, number: int) -> None:
    assert parse(raw(**{name: text})) == parse(raw(**{name: number}))


def test_a_text_that_looks_like_a_number_stays_one_where_a_text_is_meant() -> None:
    assert parse(raw(wandb__project="123")).wandb.project == "123"


OWN = {"name": "custom", "_target_": "a:B", "variant": "direct", "args": None, "reference": None}


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ({"fn": "18-a.py:f"}, {"fn": "18-a:f", "args": "18-a:make_args"}),
        ({"fn": "18-a:f", "args": "other"}, {"fn": "18-a:f", "args": "18-a:other"}),
        ({"fn": "m:f", "args": "18-a.py:g"}, {"fn": "m:f", "args": "18-a:g"}),
        ({"fn": "m:f", "reference": "exact"}, {"args": "m:make_args", "reference": "m:exact"}),
    ],
)
def test_own_functions_are_one_case_however_they_are_named(
    given: dict[str, str], params: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "18-a.py").touch()
    config = parse(raw(workload=OWN | given))
    assert config.case.params.items() >= params.items()
    assert config.workload.files == {}
    assert {arm.files.get("root") for arm in config.arms} == {None}


def test_the_folder_of_a_file_is_told_to_the_worker_and_is_no_part_of_the_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/m.py").touch()
    config = parse(raw(workload=OWN | {"fn": "lib/m.py:f"}))
    assert {arm.files["root"] for arm in config.arms} == {str(tmp_path / "lib")}
    assert config.case == parse(raw(workload=OWN | {"fn": "m:f"})).case
    (tmp_path / "step.bin").touch()
    exported = parse(raw(workload=OWN | {"file": "step.bin", "args": "lib/m.py:f"}))
    assert exported.workload.files == {"file": str(tmp_path / "step.bin"), "root": str(tmp_path / "lib")}


# --- what is refused -------------------------------------------------------------------------------


def assert_refused(changes: Mapping[str, Any], *words: str) -> None:
    """In one line that has all `words`: the argument in backticks, the value, what is allowed."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words below say more than one pattern
        parse(raw(**changes))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), True, "4096x", "large", None, [1]])
@pytest.mark.parametrize("name", ["size", "seed", "passes"])
def test_a_number_that_is_not_whole_is_refused(name: str, value: Any) -> None:
    assert_refused({name: value}, f"`{name}`", "whole number", f"got {value!r}")


@pytest.mark.parametrize("value", [0, -1, -4096.0])
def test_a_size_below_one_is_refused(value: float) -> None:
    assert_refused({"size": value}, "`size`", "positive", f"got {int(value)}")


@pytest.mark.parametrize("value", [0, -5])
def test_less_than_one_pass_is_refused(value: int) -> None:
    assert_refused({"passes": value}, "`passes`", "at least 1", f"got {value}")


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "1 s", None, True])
def test_a_wait_that_is_no_positive_number_is_refused(value: Any) -> None:
    assert_refused({"wait_s": value}, "`wait_s`", "above 0", f"got {value!r}")


def test_a_negative_seed_is_refused() -> None:
    assert_refused({"seed": -1}, "`seed`", "at least 0", "got -1")


@pytest.mark.parametrize("value", ["float31", "", None, 32])
def test_an_unknown_dtype_is_refused_with_the_choices(value: Any) -> None:
    assert_refused({"dtype": value}, "`dtype`", "float32, bfloat16, float16, float64", f"got {value!r}")


@pytest.mark.parametrize("value", ["lowest", "HIGHEST", None])
def test_an_unknown_precision_is_refused_with_the_choices(value: Any) -> None:
    assert_refused({"precision": value}, "`precision`", "highest, high, default", f"got {value!r}")


@pytest.mark.parametrize("value", ["cloud", None, True])
def test_an_unknown_wandb_mode_is_refused_with_the_choices(value: Any) -> None:
    words = ("`wandb.mode`", "auto, online, offline, disabled", f"got {value!r}")
    assert_refused({"wandb__mode": value}, *words)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "1 s", None, True])
@pytest.mark.parametrize("name", ["relative_ci", "limit_s"])
def test_a_timing_that_is_no_positive_number_is_refused(name: str, value: Any) -> None:
    assert_refused({f"timing__{name}": value}, f"`timing.{name}`", "above 0", f"got {value!r}")


NAMES = ", ".join(Metric)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("bogus", "'bogus'"),
        (["bogus"], "'bogus'"),
        (["latency", "bogus"], "'bogus'"),
        (["all"], "'all'"),
        ([["latency"]], "['latency']"),
        ("", "''"),
        (None, "None"),
        (3, "3"),
        (True, "True"),
    ],
)
def test_a_metric_that_is_none_is_refused_with_the_choices(value: Any, got: str) -> None:
    assert_refused({"metrics": value}, "`metrics`", "all", NAMES, f"got {got}")


def test_no_metrics_are_refused() -> None:
    assert_refused({"metrics": []}, "`metrics`", "at least one", "got []")


@pytest.mark.parametrize("value", ["bogus", None, True, ["auto"]])
def test_an_unknown_mode_of_ceilings_is_refused_with_the_choices(value: Any) -> None:
    assert_refused({"ceilings": value}, "`ceilings`", "auto, fresh, off", f"got {value!r}")


@pytest.mark.parametrize("value", [-1, -0.001, 600, True, False, float("nan"), float("inf"), "2s", None, [2]])
def test_seconds_of_energy_that_are_none_are_refused(value: Any) -> None:
    assert_refused({"timing__energy_s": value}, "`timing.energy_s`", "seconds", f"got {value!r}")


@pytest.mark.parametrize("value", ["", None, 3])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("workload__name", "workload.name"),
        ("workload___target_", "workload._target_"),
        ("workload__variant", "workload.variant"),
        ("wandb__project", "wandb.project"),
    ],
)
def test_a_name_that_is_no_text_is_refused(change: str, name: str, value: Any) -> None:
    assert_refused({change: value}, f"`{name}`", "text", f"got {value!r}")


@pytest.mark.parametrize("value", [[], ["tpu"], ["cpu", "gpu", "tpu"], "cpu", None, 3, [["cpu"]]])
def test_devices_that_are_none_are_refused_with_the_choices(value: Any) -> None:
    assert_refused({"device__arms": value}, "`device.arms`", "cpu or gpu", f"got {value!r}")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("sise", "sise"),
        ("device__cores", "device.cores"),
        ("timing__limit", "timing.limit"),
        ("wandb__team", "wandb.team"),
    ],
)
def test_an_unknown_key_is_refused_in_every_group(change: str, name: str) -> None:
    assert_refused({change: 1}, f"unknown key `{name}`")


def test_an_unknown_key_is_refused_with_those_that_there_are() -> None:
    assert_refused({"timing__limit": 1}, "relative_ci, limit_s, passes")
    assert_refused({"wandb__team": 1}, "mode, project, entity")


def test_the_classes_refuse_by_themselves_too() -> None:
    with pytest.raises(ValueError, match=r"`timing\.limit_s`"):
        TimingConfig(relative_ci=0.01, limit_s=0, passes=1)
    config = parse(raw())
    with pytest.raises(ValueError, match=r"`device\.arms`"):
        RunConfig(
            workload=WorkloadConfig(name="a", target="b:C"),
            devices=("tpu",),
            size=1,
            dtype=Dtype.float32,
            precision=Precision.highest,
            seed=0,
            timing=config.timing,
            passes=1,
            wandb=config.wandb,
        )


def test_what_becomes_of_an_edited_source_is_refused_or_restarted() -> None:
    assert parse(raw()).resume_changed is ResumeChanged.refuse
    assert parse(raw(resume_changed="restart")).resume_changed is ResumeChanged.restart
    with pytest.raises(ValueError, match=r"`resume_changed` must be one of refuse, restart, got 'maybe'"):
        parse(raw(resume_changed="maybe"))


def test_the_source_is_no_part_of_a_case() -> None:
    own = {"name": "custom", "_target_": "a:B", "variant": "direct", "fn": "tests.fakes:noisy", "args": "a:b"}
    assert parse(raw(workload=own)).case.params == {"fn": "tests.fakes:noisy", "args": "a:b"}
