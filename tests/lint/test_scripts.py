"""The shell scripts: they parse, they find a Python that will do, and a finished set-up costs nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from processes import ROOT

FILES = (path for name in ("scripts", ".ci") for path in (ROOT / name).glob("*") if path.is_file())
SCRIPTS = sorted(path for path in FILES if path.suffix != ".py")
NAMES = ("python", "python3", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Just enough of a checkout for `setup`; what any Python of it is called with lands in `calls`."""
    root = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    fake(root / ".venv/bin", ["python"], f'echo "$@" >>"{root}/calls"')
    return root


def fake(folder: Path, names: Iterable[str], body: str) -> Path:
    """Executables of these names that run a few lines of shell."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def pythons(folder: Path, **versions: tuple[int, int, int]) -> Path:
    """Interpreters that say they are of a version; those of other names do not work at all."""
    fake(folder, NAMES, "exit 127")
    for name, version in versions.items():
        program = f"import sys; sys.version_info = {version!r}; exec(sys.argv[1])"
        fake(folder, [name.replace("_", ".")], f'exec "{sys.executable}" -c "{program}" "$2"')
    return folder


def bash(root: Path, command: str, path: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell that has sourced `setup`, with `path` before what a shell needs."""
    places = [str(path)] if path else []
    return subprocess.run(
        ["bash", "-c", f'set -euo pipefail; source "{root}/scripts/setup"; {command}'],
        env={"PATH": os.pathsep.join([*places, "/usr/local/bin", "/usr/bin", "/bin"])} | more,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name + "/" + path.name)
def test_a_script_parses_and_says_what_it_is_for(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = script.read_text().splitlines()
    sourced = not lines[0].startswith("#!")
    assert lines[0 if sourced else 1].startswith("# ")
    assert os.access(script, os.X_OK) is not sourced
    assert sourced or "set -euo pipefail" in lines


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 7), (3, 13, 1)])
def test_a_python_that_will_do_is_found(version: tuple[int, int, int], tmp_path: Path) -> None:
    done = bash(ROOT, "find_python", pythons(tmp_path, python3=version))
    assert (done.returncode, done.stdout.strip()) == (0, "python3")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 14), (3, 14, 0), (4, 0, 0)])
def test_a_python_that_is_too_old_or_too_new_is_not_taken(
    version: tuple[int, int, int], tmp_path: Path
) -> None:
    done = bash(ROOT, "find_python", pythons(tmp_path, python3=version, python=version))
    assert done.returncode != 0
    assert done.stdout == ""
    for word in ("3.11", "3.12", "3.13", "venv", "PYTHON="):
        assert word in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_next_python_is_tried_where_the_first_will_not_do(tmp_path: Path) -> None:
    found = pythons(tmp_path, python3=(3, 10, 1), python3_12=(3, 12, 1))
    assert bash(ROOT, "find_python", found).stdout.strip() == "python3.12"


def test_a_python_that_is_named_comes_first(tmp_path: Path) -> None:
    found = pythons(tmp_path / "path", python3=(3, 12, 1))
    named = pythons(tmp_path / "mine", python3=(3, 13, 1)) / "python3"
    assert bash(ROOT, "find_python", found, PYTHON=str(named)).stdout.strip() == str(named)


def test_a_python_without_venv_is_not_taken(tmp_path: Path) -> None:
    bare = 'exec {0} -c "import sys; sys.modules[\'ensurepip\'] = None; exec(sys.argv[1])" "$2"'
    pythons(tmp_path)
    fake(tmp_path, ["python3"], bare.format(sys.executable))
    done = bash(ROOT, "find_python", tmp_path)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr


def test_setup_without_any_python_ends_with_words_and_no_environment(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    done = bash(checkout, "setup; echo went on", pythons(tmp_path / "path"))
    assert done.returncode != 0
    assert "went on" not in done.stdout
    assert "jaxaccel needs Python" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_finished_setup_starts_nothing(checkout: Path, tmp_path: Path) -> None:
    found = fake(tmp_path / "path", [*NAMES, "pip", "nvidia-smi"], f'echo "$0" >>"{checkout}/calls"; exit 1')
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 1")
    first = bash(checkout, "setup test", good)
    assert first.returncode == 0, first.stderr
    installed = (checkout / "calls").read_text()
    assert "pip install" in installed
    assert "constraints.txt" in installed
    assert f"-e {checkout}[test]" in installed
    (checkout / "calls").unlink()
    second = bash(checkout, "setup test; echo done", found)
    assert (second.returncode, second.stdout, second.stderr) == (0, "done\n", "")
    assert not (checkout / "calls").exists()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_setup_installs_again_when_what_it_depends_on_has_changed(
    name: str, checkout: Path, tmp_path: Path
) -> None:
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 1")
    for extra_line in ("", "# changed\n", ""):
        with (checkout / name).open("a") as file:
            file.write(extra_line)
        assert bash(checkout, "setup", good).returncode == 0
    assert (checkout / "calls").read_text().count("pip install") == 2


def test_what_one_script_needs_is_not_what_another_has(checkout: Path, tmp_path: Path) -> None:
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 1")
    for command in ("setup", "setup test", "setup"):
        assert bash(checkout, command, good).returncode == 0
    assert (checkout / "calls").read_text().count("pip install") == 2


def test_setup_adds_cuda_where_there_is_an_nvidia_gpu(checkout: Path, tmp_path: Path) -> None:
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 0")
    assert bash(checkout, "setup test", good).returncode == 0
    assert "[test,cuda]" in (checkout / "calls").read_text()


def test_a_failed_installation_is_tried_again(checkout: Path, tmp_path: Path) -> None:
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 1")
    fake(checkout / ".venv/bin", ["python"], f'echo "$@" >>"{checkout}/calls"; exit 1')
    for _ in range(2):
        done = bash(checkout, "setup; echo went on", good)
        assert done.returncode != 0
        assert "went on" not in done.stdout
    assert (checkout / "calls").read_text().count("pip install") == 2


@pytest.mark.parametrize(
    ("script", "module", "where"),
    [
        ("run", "jaxaccel.run", "."),
        ("export", "jaxaccel.export", "."),
        ("dashboard", "jaxaccel.dashboard", "."),
        ("study", "studies.study", "check out"),
    ],
)
def test_a_command_hands_its_arguments_on_and_works_where_it_should(
    script: str, module: str, where: str, checkout: Path, tmp_path: Path
) -> None:
    good = pythons(tmp_path / "good", python3=(3, 12, 1))
    fake(good, ["nvidia-smi"], "exit 1")
    fake(checkout / ".venv/bin", ["python"], f'echo "$PWD: $@" >>"{checkout}/calls"')
    done = subprocess.run(
        [str(checkout / "scripts" / script), "device=cpu", "wandb.project=two words"],
        cwd=tmp_path,
        env={"PATH": f"{good}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = (checkout / "calls").read_text().splitlines()[-1]
    assert last == f"{tmp_path / where}: -m {module} device=cpu wandb.project=two words"


def test_continuous_integration_goes_on_where_no_chromium_can_be_had(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", root / ".ci")
    fake(root / "scripts", ["test"], 'echo "tested $@"')
    path = fake(tmp_path / "bin", ["apt-get", "sudo"], "exit 1")
    for program in ("bash", "dirname", "id", "env", "sh"):
        (path / program).symlink_to(str(shutil.which(program)))
    done = subprocess.run(
        [str(root / ".ci/run"), "-k", "x"],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "tested -k x\n")
    assert done.stderr == "no Chromium could be installed: the page's tests in a browser are skipped\n"
