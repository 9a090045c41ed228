"""The house's floors: what may import what, and that importing has no effect."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

import jaxaccel
from jaxaccel.process.early import COMMANDS

PACKAGE = ROOT / "jaxaccel"
# A module imports from floors below its own, and from its own room. What stands on no floor is a command.
FLOORS = {
    "records": 1,
    "analyze": 2,
    "hardware": 2,
    "process": 2,
    "workloads": 2,
    "render": 3,
    "session": 3,
    "worker": 3,
    "wandb": 4,
    "cli": 5,
}
FLOORS |= dict.fromkeys(COMMANDS, 6)
FLOORS["__main__"] = 7  # the front door, which starts a command
# Heavy or effectful packages, and the only rooms or modules whose text may name them.
NAMED_BY = {
    "jax": ("worker", "workloads", "selftest.mutants", "selftest.cupti"),
    "jaxlib": ("worker", "workloads", "selftest.mutants", "selftest.cupti"),
    "flax": ("worker", "workloads", "selftest.mutants", "selftest.cupti"),
    "optax": ("worker", "workloads", "selftest.mutants", "selftest.cupti"),
    "hydra": ("cli.compose",),
    "omegaconf": ("cli.compose", "cli.conf_folder"),
    "rich": ("render.terminal", "selftest"),
    "wandb": ("wandb.client", "wandb.workspace"),
    "wandb_workspaces": ("wandb.workspace",),
    "plotly": ("render.figures", "render.page", "wandb.client"),
    "pynvml": ("hardware.nvml",),
    "sklearn": ("workloads",),
    "torch": ("peers.worker.with_torch", "peers.worker.torch_training"),
    "tensorflow": ("peers.worker.with_tensorflow",),
}
# What makes text of others safe, or shows it, and the only modules that may call it: by hand it is forgotten.
BY_HAND = {
    "print": ("process.saying", "selftest.cupti"),
    # The latter knows a secret in what others have escaped.
    "html.escape": ("records.escape", "records.redact.values"),
    "shlex.join": ("records.escape",),
    "shlex.quote": ("records.escape",),
    "csv.writer": ("records.escape",),
    "csv.DictWriter": ("records.escape",),
    "rich.markup.escape": (),
    "rich.print": (),
    "rich.console.Console": ("render.terminal.screen",),
    "sys.stdout.write": (),
    "sys.stderr.write": (),
    "sys.stdout.buffer.write": ("records.reading",),  # the schema, as a command of its own
    "traceback.print_exc": (),
    "pickle.load": (),
    "pickle.loads": (),
    "eval": (),
    "exec": (),
    "os.system": (),
}
# Those that may be loaded once a module is imported; the others wait until they are needed.
LOADED_BY = NAMED_BY | {
    # The peers' worker has the workloads' data and references.
    **{name: (*NAMED_BY[name], "peers.worker") for name in ("jax", "jaxlib", "flax", "optax")},
    "rich": ("render.terminal", "worker", "workloads", "peers.worker", "selftest.mutants"),  # by Flax
    "wandb": (),
    "wandb_workspaces": (),
    "plotly": (),
    "pynvml": (),
    "sklearn": (),
    "torch": (),
    "tensorflow": (),
}

# Imports each module as if it were the first of the package, and says after each what has changed.
LOOK = """
import importlib, json, logging, os, sys
libraries, modules = json.loads(sys.argv[1])
for library in libraries:
    __import__(library)
before = dict(os.environ), list(sys.argv), os.getcwd()
saw = {}
for module in modules:
    for name in [name for name in sys.modules if name.partition(".")[0] == "jaxaccel"]:
        del sys.modules[name]
    importlib.import_module(module)
    saw[module] = {
        "modules": sorted(sys.modules),
        "unchanged": before == (dict(os.environ), sys.argv, os.getcwd()),
        "backends": list(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {})),
        "handlers": len(logging.root.handlers),
        "files": os.listdir(),
    }
print(json.dumps(saw))
"""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(SOURCES)


def within(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


@functools.cache
def imports(module: str) -> list[str]:
    """Full names of what a module's text imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_a_module_imports_only_from_lower_floors_or_its_own_room(module: str) -> None:
    room = module.partition(".")[0]
    assert room in FLOORS, f"{room} has no floor: see CONTRIBUTING's layout"
    for name in imports(module):
        if not name.startswith("jaxaccel."):
            continue
        other = name.split(".")[1]
        if other == "__version__" or other == room:
            continue
        assert FLOORS[other] < FLOORS[room], f"{module} imports {name}, which is not below it"


def test_the_parent_and_its_workers_share_nothing_but_words() -> None:
    for module in MODULES:
        if within(module, ("session",)):
            assert not [name for name in imports(module) if name.startswith("jaxaccel.worker")]
        if within(module, ("worker",)):
            assert not [name for name in imports(module) if name.startswith("jaxaccel.session")]


@pytest.mark.parametrize("package", sorted(NAMED_BY))
def test_a_package_is_named_only_where_it_is_at_home(package: str) -> None:
    users = {
        module
        for module in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imports(module))
    }
    assert [module for module in users if not within(module, NAMED_BY[package])] == []


def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def calls(module: str) -> set[str]:
    """Full names of what a module's text calls, as far as they are told by its imports."""
    names: dict[str, str] = {}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            room = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname or alias.name: f"{room}{alias.name}" for alias in node.names}
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            found.add(f"{names.get(first, first)}{dot}{rest}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_text_of_others_is_shown_and_escaped_in_one_place(name: str) -> None:
    users = {module for module in MODULES if name in calls(module)}
    assert [module for module in users if not within(module, BY_HAND[name])] == []


def test_a_script_and_a_console_have_no_other_way_to_show_text_of_a_record() -> None:
    repro = tree("report.repro")
    by_hand = [
        node for node in ast.walk(repro) if isinstance(node, ast.FormattedValue) and node.conversion != -1
    ]
    assert by_hand == [], "a script's literals are made by foreign.python"
    assert "repr" not in calls("report.repro")
    assert "!r}" not in ast.unparse(repro)
    markup = [
        module
        for module in MODULES
        if within(module, ("render", "selftest"))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.keyword) and node.arg == "markup" and ast.unparse(node.value) != "False"
    ]
    assert markup == [], "brackets in a record are text"


def allowed(module: str) -> frozenset[str]:
    """The packages that may be loaded once the module is imported."""
    return frozenset(package for package, homes in LOADED_BY.items() if within(module, homes))


# Modules that may load the same share a process: what one loads wrongly, all of them must not.
ALIKE = {packages: [m for m in MODULES if allowed(m) == packages] for packages in map(allowed, MODULES)}


def effects(modules: list[str], environment: dict[str, str], here: Path) -> list[str]:
    """What importing the modules, which may all load the same, did that it must not."""
    here.mkdir()
    may_load = allowed(modules[0])
    # JAX itself writes to the environment as it is imported: that is not ours to judge.
    names = [f"jaxaccel.{module}".rstrip(".") for module in modules]
    task = json.dumps([["jax"] if "jax" in may_load else [], names])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK, task],
        env=environment,
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or done.stderr:
        return [f"importing {', '.join(names)}: {done.stderr}"]
    forbidden = LOADED_BY.keys() - may_load
    if "jax" not in may_load:
        forbidden |= {"scipy.stats"}  # which takes over a second
    found = []
    for name, saw in json.loads(done.stdout).items():
        found += [f"importing {name} loads {package}" for package in forbidden & set(saw["modules"])]
        if not saw["unchanged"]:
            found.append(f"importing {name} changed the environment")
        if saw["backends"]:
            found.append(f"importing {name} asked JAX for devices")
        if saw["handlers"]:
            found.append(f"importing {name} set up logging")
        if saw["files"]:
            found.append(f"importing {name} wrote {saw['files']}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("modules", ALIKE.values(), ids=lambda modules: modules[0] or "jaxaccel")
def test_importing_has_no_effect_and_loads_nothing_that_is_not_needed(
    modules: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    together = effects(modules, environment, tmp_path / "here")
    if together:  # each in a process of its own, to tell which it is
        alone = [e for m in modules for e in effects([m], environment, tmp_path / f"alone-{m}")]
        pytest.fail("\n".join(alone or together))


def test_the_package_offers_its_public_names_lazily() -> None:
    assert {name for name in jaxaccel.__all__ if not hasattr(jaxaccel, name)} == set()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxaccel.nothing
