"""Own functions by name: FILE.py:NAME as pytest imports it, module:NAME, and names that are wrong."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxaccel.records.function_names import Named, common_root, locate
from jaxaccel.workloads.importing import BadCodeError, find

CODE = "def step(x):\n    return {number}\n\n\nclass Model:\n    pass\n\n\nNUMBER = 3\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that one is in. Afterwards nothing of it is imported any more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: str, number: object = 1, text: str = CODE) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text.format(number=number))


@pytest.mark.parametrize(
    ("files", "typed", "name", "root"),
    [
        (["18-a.py"], "18-a.py:step", "18-a:step", None),
        (["18-a.py"], "./18-a.py:step", "18-a:step", None),
        (["18-a.py"], "{here}/18-a.py:Model.step", "18-a:Model.step", None),
        (["src/train.py"], "src/train.py:step", "train:step", None),  # where train:step is looked for, too
        (["src/train.py", "train.py"], "src/train.py:step", "train:step", "src"),
        (["lib/train.py"], "lib/train.py:step", "train:step", "lib"),
        (["lib/pkg/__init__.py", "lib/pkg/train.py"], "lib/pkg/train.py:step", "pkg.train:step", "lib"),
        (["src/pkg/__init__.py", "src/pkg/in/__init__.py"], "src/pkg/in/__init__.py:f", "pkg.in:f", None),
        (["p-q/__init__.py", "p-q/train.py"], "p-q/train.py:step", "train:step", "p-q"),
        ([], "some.where:step", "some.where:step", None),
    ],
)
def test_a_file_is_imported_from_the_lowest_folder_that_is_no_package(
    files: list[str], typed: str, name: str, root: str | None, here: Path
) -> None:
    for file in files:
        write(file)
    expected = Named(name=name, root=str(here / root) if root else None)
    assert locate("fn", typed.format(here=here)) == expected


def test_a_name_alone_is_in_the_module_beside_it(here: Path) -> None:
    assert locate("args", "make_args", beside="pkg.train") == Named(name="pkg.train:make_args")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (None, "must be FILE.py:function or package.module:function, got None"),
        ("", "got ''"),
        ("train", "got 'train': add its file or module, FILE.py:train"),
        ("pkg.train", "got 'pkg.train'; did you mean pkg:train?"),
        ("train.py", "got 'train.py': add the function, train.py:NAME"),
        ("train.py:", "got 'train.py:': add the function, train.py:NAME"),
        ("a:b:c", "got 'a:b:c'"),
        (".a:b", "got '.a:b'"),
        ("trian.py:step", "there is no Python file 'trian.py' here; did you mean train.py?"),
        ("./train:step", "there is no Python file './train' here; did you mean train.py?"),
        ("a.b.py:step", "'a.b.py': its name has a dot; rename the file"),
        ("random.py:step", "'random.py' would be the module 'random', which is one of Python's own: rename"),
    ],
)
def test_what_names_no_function_is_told_in_one_line(typed: str | None, words: str, here: Path) -> None:
    for file in ("train.py", "random.py", "a.b.py"):
        write(file)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        locate("fn", typed)
    message = str(caught.value)
    assert message.startswith("`fn`")
    assert words in message
    assert "\n" not in message


def test_functions_that_would_come_from_another_file_are_refused_together(here: Path) -> None:
    for file in ("a/same.py", "b/same.py", "c/other.py", "c/same.py"):
        write(file)
    a, b, c = (locate("fn", f"{path}:step") for path in ("a/same.py", "b/same.py", "c/other.py"))
    assert common_root("fn", [a, c]) == os.pathsep.join(str(here / name) for name in "ac")
    with pytest.raises(ValueError, match=r"`fn`: a/same.py and b/same.py are both the module 'same'"):
        common_root("fn", [a, b])
    with pytest.raises(ValueError, match=r"`fn`: a/same.py and c/same.py are both"):
        common_root("fn", [c, a])  # in c, which is first, there is another one


def test_a_module_is_looked_for_here_then_in_src_then_among_those_installed(here: Path) -> None:
    write("src/both_xy.py", number=2)
    assert find("fn", "both_xy:step")(0) == 2
    del sys.modules["both_xy"]
    write("both_xy.py", number=1)
    assert find("fn", "both_xy:step")(0) == 1
    assert find("fn", "os.path:join") is os.path.join


def test_own_folders_come_first_on_the_path_and_a_file_may_be_given_as_it_is(here: Path) -> None:
    write("lib/18-a.py", text="import beside_xy\n\n\ndef step(x):\n    return beside_xy.step(x)\n")
    write("lib/beside_xy.py", number=7)
    assert find("fn", "18-a:step", str(here / "lib"))(0) == 7
    assert sys.path[:2] == [str(here / "lib"), str(here)]
    assert find("fn", "./lib/18-a.py:step")(0) == 7


def test_a_module_of_the_same_name_in_another_folder_is_not_taken_for_it(here: Path) -> None:
    for folder, number in (("a", 1), ("b", 2)):
        write(f"{folder}/same_xy.py", number=number)
    assert find("fn", "same_xy:step", str(here / "a"))(0) == 1
    with pytest.raises(BadCodeError, match=r"same_xy.py can't be imported as 'same_xy'"):
        find("fn", "same_xy:step", str(here / "b"))
    del sys.modules["same_xy"]
    assert find("fn", "same_xy:step", str(here / "b"))(0) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train_xy:stp", "train_xy has no 'stp'; did you mean step?"),
        ("train_xy:Model", "must name a function, got 'train_xy:Model', which is a class"),
        ("train_xy:NUMBER", "got 'train_xy:NUMBER', which is a int"),
        (
            "train_xy:make_args",
            "no 'make_args': write it, to return the arguments, or name the",
        ),
        ("trian_xy:step", "no module 'trian_xy' in {here}/, nor is one installed; did you mean train_xy?"),
        ("fails_xy:step", "importing fails_xy failed with ZeroDivisionError: division by zero"),
        ("json:step", "json.py can't be imported as 'json': Python has another module of that name"),
        ("email/x.py:step", "'email/x.py' would be the module 'email', which is one of Python's own"),
        ("nowhere.py:step", "there is no Python file 'nowhere.py' here"),
        (None, "must be given, as FILE.py:function or package.module:function"),
    ],
)
def test_what_can_not_be_imported_is_told_in_one_line(name: str | None, words: str, here: Path) -> None:
    import json  # noqa: F401  # what is loaded already is what Python would take

    for file in ("train_xy.py", "json.py", "email/__init__.py", "email/x.py"):
        write(file)
    write("fails_xy.py", text="1 / 0\n")
    with pytest.raises(BadCodeError) as caught:
        find("fn", name)
    message = str(caught.value)
    assert message.startswith("`fn`")
    assert words.format(here=here.name) in message
    assert "\n" not in message
