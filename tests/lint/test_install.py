"""Installed from a wheel, or run from a checkout: the configs are found, and it measures, from any folder."""

import json
import os
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from filelock import FileLock
from processes import QUICK, ROOT, clean_environment

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml"))


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = clean_environment(cwd.parent / "nowhere")
    clean.pop("PYTHONPATH", None)
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def must(command: list[str], cwd: Path, **environment: str) -> str:
    done = run(command, cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a wheel of the checkout, and a fresh environment with that wheel installed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / "built", base / "built.done"
    with FileLock(base / "built.lock"):
        if not done.exists():
            folder.mkdir()
            must(
                [
                    sys.executable,
                    "-m",
                    "build",
                    "--wheel",
                    "--no-isolation",
                    "--outdir",
                    str(folder),
                    str(ROOT),
                ],
                folder,
            )
            must([sys.executable, "-m", "venv", str(folder / "venv")], folder)
            python = str(folder / "venv/bin/python")
            purelib = must([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
            # Dependencies come from the environment of the tests. Entries of a .pth file come last, and the
            # .pth files that lie there, an editable installation's among them, are not read.
            known = [path for path in sys.path if "-packages" in path]
            (Path(purelib.strip()) / "dependencies.pth").write_text("\n".join(known) + "\n")
            wheel = str(next(folder.glob("*.whl")))
            pip = [
                python,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--no-index",
                "--disable-pip-version-check",
            ]
            must([*pip, "--force-reinstall", wheel], folder)
            done.touch()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder whose name is none that a shell would like."""
    folder = tmp_path / "another folder, mit Ümlaut"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_a_wheel_carries_the_configs_and_nothing_of_the_tests(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name.removeprefix("jaxaccel/") for name in names if name.endswith(".yaml")) == CONFIGS
    assert "jaxaccel/run.py" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "conf/", "scripts/"))]


def test_an_installed_wheel_is_what_runs_and_not_the_checkout(built: Path, elsewhere: Path) -> None:
    where = "import jaxaccel, jaxaccel.cli.compose as c; print(jaxaccel.__file__); print(c.config_folder())"
    module, configs = must([str(built / "venv/bin/python"), "-c", where], elsewhere).splitlines()
    assert Path(module).is_relative_to(built / "venv")
    assert Path(configs).is_relative_to(built / "venv")


@pytest.mark.slow
def test_an_installed_command_measures_from_any_folder(built: Path, elsewhere: Path) -> None:
    must([str(built / "venv/bin/jaxaccel"), "size=8", *QUICK], elsewhere)
    (path,) = elsewhere.glob("outputs/*/*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok"
    assert record["jaxaccel_version"] == record["environment"]["packages"]["jaxaccel"]


@pytest.mark.slow
def test_an_installed_command_finds_the_user_s_module_beside_it(built: Path, elsewhere: Path) -> None:
    (elsewhere / "mine.py").write_text(
        "import numpy as np\n"
        "def double(x):\n    return 2 * x\n"
        "def make_args(size):\n    return np.ones(size, np.float32)\n"
    )
    own = ["workload=custom", "workload.fn=mine:double", "workload.args=mine:make_args", "size=8"]
    must([str(built / "venv/bin/jaxaccel"), *own, *QUICK], elsewhere, PYTHONSAFEPATH="1")
    (path,) = elsewhere.glob("outputs/*/*/record.json")
    assert json.loads(path.read_text())["status"] == "ok"


def test_the_installed_module_shows_its_help_from_any_folder(built: Path, elsewhere: Path) -> None:
    said = must([str(built / "venv/bin/python"), "-m", "jaxaccel.run", "--help"], elsewhere)
    assert "workload=matvec|dot|" in said
    assert list(elsewhere.iterdir()) == []


def test_the_checkout_runs_from_any_folder(elsewhere: Path) -> None:
    show = [sys.executable, "-m", "jaxaccel.run", "--cfg", "job", "--resolve", "workload=mlp"]
    said = must(show, elsewhere, PYTHONPATH=str(ROOT))
    assert "_target_: jaxaccel.workloads.mlp:Mlp" in said
    where = must(
        [sys.executable, "-c", "import jaxaccel.cli.compose as c; print(c.config_folder())"],
        elsewhere,
        PYTHONPATH=str(ROOT),
    )
    assert Path(where.strip()) == ROOT / "conf"


@pytest.mark.slow
def test_the_wheel_has_what_a_page_is_made_of(built: Path, elsewhere: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("page.html", "page.css", "page.js"):
            path = f"jaxaccel/render/page/{name}"
            assert archive.read(path) == (ROOT / path).read_bytes()
    records = ROOT / "experiments/clocks/records.jsonl"
    python = str(built / "venv/bin/python")
    said = must([python, "-m", "jaxaccel.report", str(records), "--output", "x.html"], elsewhere)
    assert said.endswith("Page: x.html\n")


def test_the_wheel_s_configs_are_the_checkout_s(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in CONFIGS:
            packed, here = archive.read(f"jaxaccel/{name}"), (ROOT / name).read_bytes()
            assert sha256(packed).digest() == sha256(here).digest(), name
