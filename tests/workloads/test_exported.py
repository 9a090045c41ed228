"""Programs that jax.export wrote: measured without their source, and paired by their content."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from processes import QUICK, ROOT, RunCli

import jaxaccel
from jaxaccel import export as command
from jaxaccel.cli.identify import contents
from jaxaccel.cli.parse import parse
from jaxaccel.records import Arm, ArmFacts, Case, Metric
from jaxaccel.worker.arm import OPAQUE, OpenArm
from jaxaccel.worker.checks import make_workload
from jaxaccel.worker.program import ARGUMENTS
from jaxaccel.workloads import exported as exports
from jaxaccel.workloads.exported import Exported, load, seeded
from jaxaccel.workloads.importing import BadCodeError
from jaxaccel.workloads.saving import NAMES_WITHOUT_FOLDERS


def step(x: Any, y: Any) -> Any:
    return jnp.tanh(x) @ y


def saved(folder: Path, fn: Any = step, args: Any = None, name: str = "step.bin", **more: Any) -> str:
    args = args if args is not None else (np.ones((4, 5), np.float32), np.ones(5, np.float32))
    return str(jaxaccel.save_exported(fn, args, folder / name, **more))


def case(**changes: Any) -> Case:
    known: dict[str, Any] = {"dtype": "float32", "precision": "highest", "variant": "direct", "size": 1}
    return Case(workload="exported", **known | changes)


@pytest.mark.slow
def test_a_file_is_measured_without_its_source(tmp_path: Path) -> None:
    file = saved(tmp_path)
    arm = Arm(
        case=case(params={"sha256": contents(file)}),
        device="cpu",
        target="jaxaccel.workloads.exported:Exported",
        files={"file": file},
    )
    opened = OpenArm(arm, jax.devices()[0], ArmFacts(requested="cpu"), {}, tuple(Metric))
    assert opened.round(Metric.latency).samples_s
    assert opened.facts.invariants[ARGUMENTS] == OPAQUE
    assert opened.facts.cost.source == "XLA"
    assert opened.facts.accuracy.ok is None
    assert opened.facts.memory.arguments_bytes == (20 + 5) * 4


def test_a_file_does_not_tell_where_code_lies(tmp_path: Path) -> None:
    before = jax.config.values[NAMES_WITHOUT_FOLDERS[0]]
    content = Path(saved(tmp_path)).read_bytes()
    assert b"test_exported.py" in content
    assert str(Path(__file__).parent).encode() not in content
    assert jax.config.values[NAMES_WITHOUT_FOLDERS[0]] == before


def test_a_file_is_for_the_cpu_and_for_cuda(tmp_path: Path) -> None:
    assert load(saved(tmp_path)).platforms == ("cpu", "cuda")


def test_its_arguments_are_seeded_as_it_describes_them(tmp_path: Path) -> None:
    args = (
        {"x": np.ones((3, 2), np.float32), "i": np.ones(50, np.int32), "b": np.ones(50, bool)},
        jax.random.key(0),
        np.ones(2, np.complex64),
    )
    file = saved(tmp_path, lambda tree, key, z: (tree, jax.random.normal(key, (2,)), z * 2), args)
    workload = Exported(size=1, file=file)
    tree, key, z = workload.inputs(0)
    assert np.abs(tree["x"]).max() < 1
    assert set(tree["i"]) == {0, 1, 2, 3}
    assert set(tree["b"]) == {False, True}
    assert (key.dtype, key.shape, z.dtype) == (np.uint32, (2,), np.complex64)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves((tree, key, z)))
    assert not np.array_equal(workload.inputs(1)[0]["x"], tree["x"])
    jax.block_until_ready(jax.jit(workload.function)(tree, key, z))
    assert workload.memory_bytes() >= 2 * tree["x"].nbytes


@pytest.mark.slow
def test_a_state_of_a_library_of_its_own_becomes_its_leaves(tmp_path: Path) -> None:
    from own_code import training

    made = training.make_args(8, np.dtype("float32"))
    file = saved(tmp_path, training.step, made)
    workload = Exported(size=8, file=file, args="own_code.training:make_args")
    inputs = workload.inputs(0)
    expected = jax.tree.leaves(jax.jit(training.step)(*made))
    for leaf, other in zip(jax.jit(workload.function)(*inputs), expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-5)


def test_settings_stay_in_the_file(tmp_path: Path) -> None:
    file = saved(tmp_path, lambda x, n: x * n, (np.ones(3, np.float32), 4), static=[1])
    workload = Exported(size=1, file=file)
    (x,) = workload.inputs(0)
    np.testing.assert_allclose(workload.function(x), 4 * x)


def test_a_reference_is_called_with_the_same_arguments(tmp_path: Path) -> None:
    workload = Exported(size=1, file=saved(tmp_path), reference=f"{__name__}:exact")
    inputs = workload.inputs(0)
    output = np.asarray(workload.function(*inputs))
    assert workload.verify(inputs, output, "highest", run=lambda *_: None).ok
    assert not workload.verify(inputs, output * 1.01, "highest", run=lambda *_: None).ok


def exact(x: Any, y: Any) -> Any:
    return np.tanh(x.astype(np.float64)) @ y


# --- refused ---------------------------------------------------------------------------------------


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello world, this is no program", bytes(300), b"\xff" * 100):
        (tmp_path / "no.bin").write_bytes(content)
        with pytest.raises(BadCodeError, match=r"no\.bin holds no program of jax\.export"):
            Exported(size=1, file=str(tmp_path / "no.bin"))


def test_a_program_for_another_platform_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    file = saved(tmp_path, platforms=["cuda", "tpu"])
    with pytest.raises(BadCodeError, match=r"step\.bin was exported for cuda and tpu, not for cpu"):
        Exported(size=1, file=file)


def test_a_form_that_this_jax_does_not_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytearray) -> Any:
        raise NotImplementedError("deserialize unsupported version 99")

    file = saved(tmp_path)
    monkeypatch.setattr(exports.export, "deserialize", refuse)
    with pytest.raises(
        BadCodeError, match=r"does not read \(deserialize unsupported version 99\); export it again"
    ):
        Exported(size=1, file=file)


def test_a_calling_convention_of_another_jax_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path)
    monkeypatch.setattr(exports.export, "minimum_supported_calling_convention_version", 99)
    with pytest.raises(BadCodeError, match=r"calling convention .* export it again"):
        Exported(size=1, file=file)


def test_a_program_that_calls_into_this_process_is_refused(tmp_path: Path) -> None:
    """A callback is found by a number in the file. Nothing is compiled of such a program."""

    def factored(x: Any) -> Any:
        return jnp.linalg.qr(x)[0]

    path = Path(saved(tmp_path, factored, (np.eye(4, dtype=np.float32),)))
    Exported(size=1, file=str(path))
    content = path.read_bytes()
    assert b"lapack_sgeqrf_ffi" in content
    path.write_bytes(content.replace(b"lapack_sgeqrf_ffi", b"xla_some_callback"))
    with pytest.raises(BadCodeError, match="calls 'xla_some_callback', which is no numerical library"):
        Exported(size=1, file=str(path))
    generic = '"stablehlo.custom_call"(%0) <{call_target_name = "xla_ffi_python_cpu_callback"}>'
    assert exports.unknown_calls(generic) == ["xla_ffi_python_cpu_callback"]
    assert exports.unknown_calls('stablehlo.custom_call @"odd name"(%0)') == ["odd name"]
    # The name of something harmless, as the begin of another one.
    assert exports.unknown_calls('stablehlo.custom_call @"Sharding (x"(%0)') == ["Sharding (x"]
    assert exports.unknown_calls('stablehlo.custom_call @"Qr\\22 evil"(%0)') == ["Qr\\22 evil"]
    assert exports.unknown_calls('"stablehlo.custom_call"(%0) <{call_target_name = "a\\"Qr"}>') == ['a\\"Qr']
    assert exports.unknown_calls("stablehlo.custom_call @lapack_sgeqrf_ffi(%0)") == []


def test_open_sizes_are_refused(tmp_path: Path) -> None:
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("n, 3"), jnp.float32)
    file = saved(tmp_path, lambda x: x + 1, (shape,))
    with pytest.raises(BadCodeError, match=r"shape \(n, 3\), whose size is left open"):
        Exported(size=1, file=file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 4}, "`size`=4: an exported program has its own sizes"),
        ({"dtype": "bfloat16"}, "`dtype` must be one that step.bin takes, float32; got bfloat16"),
        ({"tolerance": "x"}, "`workload.tolerance` must be a number"),
        ({"args": "nowhere:f"}, "no module 'nowhere'"),
        ({"variant": "other"}, "`workload.variant` must be one of direct"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        Exported(**{"size": 1, "file": saved(tmp_path)} | changes)


def test_arguments_of_another_shape_are_refused(tmp_path: Path) -> None:
    workload = Exported(size=1, file=saved(tmp_path), args="wrong_code:one_vector")
    with pytest.raises(
        BadCodeError, match=r"gives float32\[8\]; step.bin takes float32\[4, 5\], float32\[5\]"
    ):
        workload.inputs(0)


@pytest.mark.parametrize(
    ("fn", "args", "words"),
    [
        (lambda: jnp.ones(3), (), "takes no arguments"),
        (lambda x: (), (np.ones(3, np.float32),), "returns no arrays"),
    ],
)
def test_a_program_of_nothing_is_refused(fn: Any, args: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadCodeError, match=words):
        Exported(size=1, file=saved(tmp_path, fn, args))


def test_wide_types_need_wide_numbers(tmp_path: Path) -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        file = saved(tmp_path, lambda x: x + 1, (np.ones(3),))
        assert seeded(load(file).in_avals[0], seed=0, stream=0).dtype == np.float64
        Exported(size=1, file=file, dtype="float64")
    finally:
        jax.config.update("jax_enable_x64", False)
    with pytest.raises(BadCodeError, match=r"`dtype` must be float64 for step\.bin"):
        Exported(size=1, file=file)


# --- what a case is --------------------------------------------------------------------------------


def composed(file: str | None) -> dict[str, Any]:
    return {
        "workload": {"name": "exported", "_target_": "x:Y", "variant": "direct", "file": file, "args": None},
        "device": {"name": "cpu", "arms": ["cpu"]},
        "timing": {"relative_ci": 0.1, "limit_s": 1.0, "passes": 1},
        "wandb": {"mode": "disabled", "project": "p"},
        "size": 1,
        "dtype": "float32",
        "precision": "highest",
        "seed": 0,
        "passes": 1,
        "metrics": "all",
        "ceilings": "off",
        "resume": None,
        "wait_s": 1,
        "debug": False,
    }


def test_a_case_is_the_content_of_its_file_wherever_that_is(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for place in ("one.bin", "elsewhere/two.bin"):
        (tmp_path / place).write_bytes(b"content")
    (tmp_path / "three.bin").write_bytes(b"other content")
    one, two, three = (
        parse(composed(str(tmp_path / place))) for place in ("one.bin", "elsewhere/two.bin", "three.bin")
    )
    assert one.case.case_id == two.case.case_id != three.case.case_id
    assert one.case.params == {"args": None, "sha256": contents(str(tmp_path / "one.bin"))}
    assert len(one.case.params["sha256"]) == 16
    assert [arm.files for arm in two.arms] == [{"file": str(tmp_path / "elsewhere/two.bin")}]


def test_a_worker_finds_the_file_where_it_is_here(tmp_path: Path) -> None:
    file = saved(tmp_path)
    found = make_workload(
        "jaxaccel.workloads.exported:Exported", case(params={"sha256": contents(file)}), {"file": file}
    )
    assert isinstance(found, Exported)


# --- by the command line ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_is_written_by_a_command_and_measured_by_another(run_cli: RunCli, tmp_path: Path) -> None:
    here = tmp_path / "here"
    own = ROOT / "experiments/own_code"
    shutil.copytree(own, here / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    made = subprocess.run(
        [
            *(sys.executable, "-m", "jaxaccel.export", "mine.ode:advance", "mine.ode:make_args"),
            *("--size", "8", "--static", "2", "ode.bin"),
        ],
        cwd=here,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "for cpu and cuda, takes float32[8, 3], float32[]" in made.stdout
    shutil.rmtree(here / "mine")
    ran = run_cli("workload=exported", "workload.file=ode.bin", *QUICK, cwd=here)
    assert ran.code == 0, ran.said
    (record,) = ran.records().values()
    assert record["case"]["params"]["sha256"] == contents(str(here / "ode.bin"))
    assert "ode.bin" not in str(record["case"])


def test_a_program_has_the_precision_that_it_was_exported_with(tmp_path: Path) -> None:
    square = np.ones((4, 4), np.float32)
    file = saved(tmp_path, lambda x: x @ x, (square,), precision="default")
    precise = saved(tmp_path, lambda x: x @ x, (square,), name="precise.bin")
    half = saved(tmp_path, lambda x: x @ x, (square.astype(jnp.bfloat16),), name="half.bin")
    wider = saved(
        tmp_path,
        lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32),
        (square.astype(jnp.bfloat16),),
        name="half_into_float32.bin",
        precision="default",
    )
    plainly = saved(tmp_path, lambda x: x + 1, (square,), name="plain.bin")

    def judge(file: str, precision: str) -> None:
        workload = Exported(size=1, file=file, dtype="bfloat16" if "half" in file else "float32")
        workload.verify((square,), square, precision, lambda *_: None)

    for good in (
        (file, "default"),
        (precise, "highest"),
        (half, "highest"),
        (wider, "highest"),
        (plainly, "highest"),
    ):
        judge(*good)
    with pytest.raises(BadCodeError, match=r"`precision` must be default for step\.bin"):
        judge(file, "highest")
    with pytest.raises(BadCodeError, match=r"must be highest for precise.*got default"):
        judge(precise, "default")


def test_an_array_that_would_be_baked_in_is_refused(tmp_path: Path) -> None:
    matrix = jnp.ones((4, 5))
    with pytest.raises(BadCodeError, match=r"captured an array of shape \(4, 5\)"):
        saved(tmp_path, lambda x: jax.jit(lambda y: matrix @ y)(x), (np.ones(5, np.float32),))
    assert list(tmp_path.iterdir()) == []


def test_wide_integers_beside_narrow_numbers_are_measured_at_float64(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        file = saved(
            tmp_path, lambda i, x: x * i.astype(x.dtype), (np.ones(3, np.int64), np.ones(3, np.float32))
        )
        assert Exported(size=1, dtype="float64", file=file).inputs(0)[0].dtype == np.int64
    with pytest.raises(BadCodeError, match="must be float64"):
        Exported(size=1, dtype="float32", file=file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own_code.ode:nothing", "own_code.ode:make_args", "x.bin"], "has no 'nothing'"),
        (["own_code.ode:advance", "own_code.ode:make_args", "--size", "0", "x.bin"], "`--size` must be"),
        (["own_code.ode:advance", "own_code.ode:make_args", "nowhere/x.bin"], "no folder 'nowhere'"),
        (["own_code.ode:advance"], "FILE to write"),
        (["fn=own_code.ode:advance"], "FILE to write"),
        (["fn=nowhere.py:f", "x.bin"], "`fn`: there is no Python file 'nowhere.py' here"),
        (["fn=own_code.ode:nothing", "args=make_args", "x.bin"], "`fn`: own_code.ode has no 'nothing'"),
    ],
)
def test_a_wrong_export_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_what_can_not_be_traced_shows_the_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["wrong_code:branches", "wrong_code:pair_of_vectors", "x.bin"]) == 1
    assert "if x[0] > 0:" in capsys.readouterr().err
