"""Secrets of seventeen kinds, planted in a sweep, its report and its bundle: none is in a byte of them."""

import base64
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import planted
import pytest
from fakes import make_failed, make_record
from processes import ROOT, TIMEOUT_S, Ran, clean_environment

import jaxaccel.report.bundle as bundling
from jaxaccel.records import Arm, ArmFacts, Case, Problem, store
from jaxaccel.records.messages import Failure, Open, Started, encode_message
from jaxaccel.records.redact import values
from jaxaccel.render.page import write_page
from jaxaccel.report import main as report
from jaxaccel.report import read
from jaxaccel.session import worker_process
from jaxaccel.session.worker_process import Worker
from jaxaccel.wandb.process import carry_out
from jaxaccel.wandb.runs import Run
from jaxaccel.wandb.send_job import Order

PEM = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "c2VjcmV0LWtleS1tYXRlcmlhbC0xMjM0",
        "-----END PRIVATE KEY-----",
    ]
)
PLANTED = {
    # known by the variable that has them
    "long": "tok-0123456789abcdef/XYZ+=",
    "short": "hunter2x",
    "word": "swordfish",
    "quotes": "q'u\"o\\te & <s> é",
    "aws": "/bPxRfiCYEXAMPLEKEY/K7MDENG+wJal",
    "pem": PEM,
    "flag": "fl4g-s3cret",
    "wandb, too": "fedcba9876543210fedcba9876543210fedcba98",
    # by .netrc
    "wandb": "0123456789abcdef0123456789abcdef01234567",
    "netrc": "n3trc-passw0rd",
    # by their form
    "aws id": "AKIAIOSFODNN7EXAMPLE",
    "remote": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "hf": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "slack": "xoxb-123456789012-abcdefGHIJ",
    # by what stands before them
    "bearer": "b3arer.of-n3ws",
    # by nobody before the code runs
    "set by the code": "of-a-dotenv-f1le",
}
VARIABLES = {
    "SOME_API_TOKEN": PLANTED["long"],
    "PASSWORD": PLANTED["short"],
    "DB_PASSWORD": PLANTED["word"],
    "ODD_SECRET": PLANTED["quotes"],
    "AWS_SECRET_ACCESS_KEY": PLANTED["aws"],
    "WANDB_API_KEY": PLANTED["wandb, too"],
    "SIGNING_KEY": PEM,
    "DATABASE_URL": f"postgres://me:{PLANTED['short']}@db/x",
    "HTTP_AUTHORIZATION": f"Bearer {PLANTED['bearer']}",
    "XLA_FLAGS": f"--xla_dump_hlo_module_re=token={PLANTED['flag']}",
    "HARMLESS_KEY": "abc",
}
NEEDLES = [
    *(text for name, text in PLANTED.items() if name != "pem"),
    *PEM.split("\n")[1:3],
    PLANTED["long"][-8:],
    "in-the-source-1",
]
FUNCTIONS = ("works", "raises", "aborts")


def forms(secret: str) -> Iterator[bytes]:
    """How a secret may stand in a file."""
    texts = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret)}
    yield from (text.encode() for text in texts)
    yield secret.encode("utf-16-le")
    for before in range(3):  # as base64, wherever it begins
        told = base64.b64encode(bytes(before) + secret.encode()).rstrip(b"=")
        yield told[(before * 8 + 5) // 6 : (before + len(secret.encode())) * 8 // 6]


def layers(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file, and what is packed in it."""
    yield name, content
    if name.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive.getmembers():
                if file := archive.extractfile(member):
                    yield from layers(f"{name}:{member.name}", file.read())
    elif name.endswith(".gz"):
        yield f"{name}:unpacked", gzip.decompress(content)
    elif name.endswith(".html"):
        for packed in re.findall(rb">([A-Za-z0-9+/=\s]{1000,})<", content):
            yield f"{name}:unpacked", zlib.decompress(base64.b64decode(packed))


def leaks(files: Mapping[str, bytes]) -> list[str]:
    """Where which secret is."""
    wanted = {secret: [*forms(secret)] for secret in NEEDLES}
    return [
        f"{secret!r} in {place}: {content[max(0, content.find(form) - 60) : content.find(form) + 60]!r}"
        for name, whole in files.items()
        for place, content in layers(name, whole)
        for secret, ways in wanted.items()
        for form in ways
        if form in content or form in place.encode()
    ]


def files_below(*folders: Path) -> dict[str, bytes]:
    """Each file, and each name of a folder."""
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for folder in folders
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a person: home with .netrc, own code in a repository whose remote has a token."""
    place = tmp_path_factory.mktemp("planted")
    for name in ("home", "code", "tmp", "here"):
        (place / name).mkdir()
    (place / "netrc").write_text(
        f"machine api.wandb.ai\n  login user\n  password {PLANTED['wandb']}\n"
        f"machine example.com login me password {PLANTED['netrc']}\n"
    )
    (place / "planted.json").write_text(json.dumps(PLANTED))
    shutil.copy(planted.__file__, place / "code" / "planted.py")
    remote = f"https://me:{PLANTED['remote']}@github.com/me/code.git"
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", remote],
        ["add", "planted.py"],
        ["-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "-qm", "code"],
    ):
        subprocess.run(["git", "-C", str(place / "code"), *words], check=True)
    return place


@pytest.fixture(scope="module")
def variables(place: Path) -> dict[str, str]:
    """The environment of the commands, which has the secrets."""
    return {
        **clean_environment(place / "tmp"),
        "HOME": str(place / "home"),
        "XDG_CACHE_HOME": "",
        "NETRC": str(place / "netrc"),
        "PLANTED": str(place / "planted.json"),
        "PYTHONPATH": str(ROOT),
        **VARIABLES,
    }


@pytest.fixture(scope="module")
def swept(place: Path, variables: dict[str, str]) -> Ran:
    """A sweep of what works, raises and aborts, kept for W&B too; its bundle lies beside it."""
    functions = ",".join(f"{place}/code/planted.py:{name}" for name in FUNCTIONS)
    words = ["timing=quick", "timing.limit_s=0.05", "metrics=[latency]", "ceilings=off", "wandb=offline"]
    ran = command(place, variables, "run", "-m", f"fn={functions}", "size=8", "debug=true", *words)
    assert ran.code == 1, ran.said
    return ran


def command(place: Path, variables: dict[str, str], module: str, *arguments: str) -> Ran:
    """`python -m jaxaccel.MODULE`, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", f"jaxaccel.{module}", *arguments],
        cwd=place / "here",
        env=variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr, cwd=place / "here", wall_s=0.0)


@pytest.mark.slow
def test_a_sweep_of_code_that_tells_all_leaves_no_secret_anywhere(place: Path, swept: Ran) -> None:
    written = files_below(place / "here", place / "home", place / "tmp")
    assert leaks({**written, "stdout": swept.out.encode(), "stderr": swept.err.encode()}) == []
    records = {record["case"]["params"]["fn"]: record for record in swept.records().values()}
    assert records["planted:works"]["status"] == "ok"
    assert "***" in records["planted:works"]["arm"]["flags"]["XLA_FLAGS"]
    assert records["planted:raises"]["error"]["message"].startswith("long: <***>")
    assert 'password="***"' in records["planted:raises"]["error"]["traceback"]
    assert records["planted:aborts"]["error"]["type"] == "WorkerDied"
    assert "ValueError: long: <***>" in swept.out
    kinds = {path.suffix for path in map(Path, written)}
    assert {".json", ".jsonl", ".csv", ".html", ".yaml", ".wandb", ".log"} <= kinds


@pytest.mark.slow
def test_no_secret_is_in_what_a_report_makes_of_it(
    place: Path,
    variables: dict[str, str],
    swept: Ran,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nor of a record that an earlier jaxaccel wrote, with secrets in it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLANTED", str(place / "planted.json"))
    text = planted.told()
    os.environ.pop("LATE_TOKEN")  # monkeypatch would put it back for the tests after this one
    earlier = make_failed("cpu", error=Problem(type="X", message=text, details=text, traceback=text))
    arm = ArmFacts(requested="cpu", platform="cpu", kind="CPU", flags={"XLA_FLAGS": VARIABLES["XLA_FLAGS"]})
    fine = make_record("cpu", command=f"python -m jaxaccel.run {PLANTED['long']} {PLANTED['hf']}", arm=arm)
    shutil.copytree(swept.folder, tmp_path / "records")
    (tmp_path / "records" / "earlier.jsonl").write_bytes(
        b"\n".join(msg for msg in map(store.encode_record, (earlier, fine)))
    )
    places = [str(tmp_path / "records"), str(tmp_path / "records" / "earlier.jsonl")]
    for kind in ("html", "csv", "json", "markdown", "table"):
        file = () if kind == "table" else ("--output", str(tmp_path / f"new.{kind}"))
        assert report([*places, "--format", kind, *file]) == 0
    (tmp_path / "records" / "earlier.jsonl").unlink()
    said = capfd.readouterr()
    known = [name for name in NEEDLES if name != PLANTED["set by the code"]]
    found = leaks({**files_below(tmp_path), "stdout": said.out.encode(), "stderr": said.err.encode()})
    assert [leak for leak in found if leak.startswith(tuple(map(repr, known)))] == []


@pytest.mark.slow
def test_a_bundle_has_no_secret(place: Path, variables: dict[str, str], swept: Ran) -> None:
    folder = next(path.parent for path in swept.folder.rglob("record.json") if '"ok"' in path.read_text())
    made = command(place, variables, "report", str(folder), "--bundle", "--run-own-code")
    assert made.code == 0, made.said
    (archive,) = folder.glob("*.tar.gz")
    written = files_below(place / "here", place / "home", place / "tmp")
    assert any("repro.py" in name for name, _ in layers(archive.name, archive.read_bytes()))
    assert leaks({**written, "stdout": made.out.encode(), "stderr": made.err.encode()}) == []


@pytest.mark.slow
def test_a_worker_that_is_ended_leaves_no_secret(
    place: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # A worker that hangs can't say which variables its code has set: this process must know the secret, too.
    # What only the code knows is not hidden here (SECURITY.md).
    monkeypatch.setenv("LATE_TOKEN", PLANTED["set by the code"])
    monkeypatch.setenv("PYTHONPATH", str(Path(planted.__file__).parent))
    case = Case(workload="matvec", size=5, dtype="float32", precision="highest", variant="direct")
    with Worker("cpu") as worker:
        started = worker.ready()
        assert isinstance(started, Started), started
        monkeypatch.setattr(worker_process, "ANSWER_TIMEOUT_S", 2.0)
        failure = worker.ask(Open(key="a", arm=Arm(case=case, device="cpu", target="planted:Hangs")))
    assert isinstance(failure, Failure)
    assert failure.error.type == "Timeout"
    assert "long: <***>" in (failure.error.details or "")
    assert leaks({"message": encode_message(failure), "start": encode_message(started)}) == []


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_learned", set())


def test_the_search_finds_what_it_looks_for() -> None:
    for secret in NEEDLES:
        for form in forms(secret):
            assert leaks({"x": b"before" + form + b"after"}), (secret, form)
    packed = base64.b64encode(zlib.compress((PLANTED["short"] + os.urandom(2000).hex()).encode()))
    assert leaks({"page.html": b"<script>" + packed + b"</script>"})
    assert leaks({"x.gz": gzip.compress(PLANTED["word"].encode())})
    assert not leaks({"x": b"nothing"})


@pytest.mark.slow
def test_the_page_the_bundle_and_the_client_look_again_at_what_they_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever reached them: each is the last that can look into what it packs."""
    monkeypatch.setenv("PASSWORD", PLANTED["short"])
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    record = make_record("cpu", command=f"python -m jaxaccel.run {PLANTED['short']}")
    write_page([record], tmp_path / "page.html", notes=[f"it is {PLANTED['short']}"])

    def fill(folder: Path, *_: object) -> dict[str, str]:
        (folder / "new.txt").write_text(PLANTED["short"])
        (folder / "new.bin").write_bytes(b"\xff\x00" + PLANTED["short"].encode())
        return {}

    monkeypatch.setattr(bundling, "the_one", lambda *_: record)
    monkeypatch.setattr(bundling, "arm_of", lambda *_: None)
    monkeypatch.setattr(bundling, "fill", fill)
    assert not bundling.bundle([record], read([str(tmp_path), "--bundle"])), "one file is left out"
    run = Run(id="a", name="a", group="a", job_type="point", config={"said": PLANTED["short"]})
    order = Order(runs=(run,), project="p", entity=None, folder=str(tmp_path), mode="offline", keep=True)
    assert carry_out(order).kept == 1
    written = files_below(tmp_path)
    assert {Path(name).suffix for name in written} >= {".html", ".gz", ".txt", ".wandb", ".log"}
    assert leaks(written) == []
