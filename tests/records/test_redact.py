"""What is a secret, that none is in a text, and that ordinary text stays as it is."""

import base64
import gzip
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from fakes import make_failed, make_record, make_timing
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import ROOT, TIMEOUT_S

from jaxaccel.cli.compose import compose
from jaxaccel.process.early import COMMANDS
from jaxaccel.process.streams import SafeStream, safe_streams
from jaxaccel.records import Problem, decode_record, encode_record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import Failure
from jaxaccel.records.redact import (
    all_without_secrets,
    holds_secret,
    is_secret,
    learn,
    values,
    without_places,
    without_secrets,
)
from jaxaccel.records.redact.outlets import document, scrub
from jaxaccel.records.redact.values import Kind, kind_of
from jaxaccel.session.ceilings import Book, Page
from jaxaccel.worker.serving import send

KEY_LINES = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "c2VjcmV0LWtleS1tYXRlcmlhbC0xMjM0"]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *KEY_LINES, "-----END PRIVATE KEY-----"])
GITHUB, WANDB = "0123456789abcdefghijABCDEFGHIJ012345", "0123456789abcdef0123456789abcdef01234567"
# A text with a secret of each form, and what must not be left of it.
OF_A_FORM = {
    "aws": ("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    "github": (f"pushed with ghp_{GITHUB}", GITHUB),
    "github, new": ("github_pat_11ABCDE0Y0abcdefghij_XYZ0123456789", "XYZ0123456789"),
    "hugging face": ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "abcdefghij"),
    "wandb": (f"wandb: API key {WANDB}", WANDB),
    "jwt": ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl!", "eyJzdWIiOiIxMjM0In0"),
    "slack": ("xoxb-123456789012-abcdefGHIJ", "abcdefGHIJ"),
    "google": ("AIzaSyA0123456789abcdefghijklmnopqrstuv", "AIzaSyA0123456789abcdef"),
    "openai": ("sk-proj-0123456789abcdefghij", "0123456789abcdefghij"),
    "bearer": ("Authorization: Bearer abc.def-0123456789", "abc.def-0123456789"),
    "basic": ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "url": ("cloned https://me:pa55/w@ord@host/x", "pa55/w@ord"),
    "url, key": ("GET https://host/x?size=3&sig=abcdefgh%2F12&more", "abcdefgh%2F12"),
    "source": ('    connect(user="me", password="correct horse")', "correct horse"),
    "settings": ("db_password: hunter2x", "hunter2x"),
    "number": ("password=12345678", "12345678"),
    "option": ("ran client --api-key abcd1234 --size 3", "abcd1234"),
    "json": (r"{\"api_key\": \"abcd1234\"}", "abcd1234"),
    "token": ("--xla_token=s3cr3tvalue", "s3cr3tvalue"),
    "pem": (f"read {PEM} from", KEY_LINES[1]),
    "pem, as a literal": (repr(PEM), KEY_LINES[1]),
    "pem, cut at its begin": (PEM.partition("\n")[2], KEY_LINES[1]),
    "pem, cut at its end": (PEM.rpartition("\n")[0], KEY_LINES[1]),
}
# What looks a little like a secret, in the output of programs such as these.
ORDINARY = [
    "key=Array([0, 42], dtype=uint32) key: the PRNG's, keys=(3, 2)",
    "max_tokens=4096 tokens: 1024 token=float32[8,128] token: bfloat16[2]",
    "unknown key `wandb.projet`: did you mean wandb.project?",
    "password: required, secret: none, api_key=None, password=os.environ['X'], token=self.token",
    "password={password!r} api_key=<your key> secret=${oc.env:SECRET} password=%s",
    "commit 15f8cbc581d1c5cfc6e31f68b48bdd13cec2dd2c of https://github.com/jax-ml/jax",
    "https://host:8080/path@2x.png and me@example.com",
    "Basic operations of the bearer of news; authorization of somebody",
    "jit_matvec.1 = f32[1024]{0} fusion(f32[1024,1024]{1,0} %param_0), kind=kLoop",
    "/usr/lib/python3.11/site-packages/jax/_src/random.py:42, in key",
    "matvec 1024 float32 highest: latency 12.3 µs ±0.4%, n=4096, 1.5e-06",
    "--xla_cpu_multi_thread_eigen=false --xla_dump_to=/tmp/dump",
    "the CPU's task-skewed ask-me risk-free disk-cache",
]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(values, "_learned", set())
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "GITHUB_PAT",
        "PAT",
        "DB_PWD",
        "MYSQL_PWD",
        "DATABASE_URL",
        "HEROKU_POSTGRESQL_DATABASE_URL",
        "SENTRY_DSN",
        "PGPASSWORD",
        "db_pwd",
        "AZURE_STORAGE_CONNECTION_STRING",
        "HTTP_AUTHORIZATION",
        "SLACK_WEBHOOK_URL",
    ],
)
def test_a_variable_with_such_a_name_holds_a_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_secret(name)
    monkeypatch.setenv(name, "s3cr3t/val:ue")
    assert without_secrets("it said s3cr3t/val:ue twice: s3cr3t/val:ue") == "it said *** twice: ***"


@pytest.mark.parametrize(
    "name", ["PWD", "OLDPWD", "PATH", "HOME", "JAX_PLATFORMS", "PATTERN", "AUTHOR", "WANDB_BASE_URL"]
)
def test_a_variable_with_such_a_name_holds_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'Post "https://me:pa55@wandb.example.com/graphql": EOF',
            'Post "https://***@wandb.example.com/graphql": EOF',
        ),
        ("postgres://user:p@ss@db:5432/x", "postgres://***@db:5432/x"),
        ("https://token@host/a and http://b:c@d", "https://***@host/a and http://***@d"),
        ("https://host/path@2x.png", "https://host/path@2x.png"),
        ("mail me@example.com", "mail me@example.com"),
        ("http://localhost:8080/me@2x and", "http://localhost:8080/me@2x and"),
    ],
)
def test_a_url_is_told_without_its_credentials(text: str, told: str) -> None:
    assert without_secrets(text) == told


def test_a_secret_within_another_leaves_nothing_of_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdef-and-more")
    assert without_secrets("abcdef-and-more abcdef") == "*** ***"


def test_a_value_too_short_to_be_a_secret_spoils_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_TOKEN", "true")
    assert without_secrets("it is true") == "it is true"


def test_all_texts_of_a_nested_value_are_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    assert all_without_secrets({"a": ["abcdef", 1, None], "b": ("x abcdef",)}) == {
        "a": ["***", 1, None],
        "b": ("x ***",),
    }


@pytest.mark.parametrize(
    "argument",
    [
        "+workload.key=0123456789abcdef-secret",
        "wandb.project=https://me:pa55@host/x",
        "wandb.project=hunter2x",
        "wandb.project=ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "wandb.project=${oc.env:PASSWORD}",
        "hydra.run.dir=out/${oc.env:PASSWORD}",
        "wandb.entity='${oc.env:${oc.env:WHICH}}'",
        "wandb.entity=${oc.env:NOT_NAMED_SO}",
        "wandb.project=${oc.env:SHORT_TOKEN}",
    ],
)
def test_an_argument_that_holds_a_secret_is_refused_without_repeating_it(
    argument: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_TOKEN", "0123456789abcdef-secret")
    monkeypatch.setenv("PASSWORD", "hunter2x")
    monkeypatch.setenv("SHORT_TOKEN", "abc1")
    monkeypatch.setenv("WHICH", "PASSWORD")
    monkeypatch.setenv("NOT_NAMED_SO", "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH")
    assert not holds_secret("workload=matvec")
    with pytest.raises(BadInputError, match="holds a secret") as caught:
        compose([argument], "5eed")
    for secret in ("0123456789abcdef", "pa55", "hunter2x", "ghp_", "hf_", "abc1"):
        assert secret not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [path for path in tmp_path.rglob("*") if "hunter2x" in path.name] == []


def test_the_refusal_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSWORD", "hunter2x")
    with pytest.raises(
        BadInputError, match=r"`wandb.project=\*\*\*` holds a secret \(the value of PASSWORD\)"
    ):
        compose(["wandb.project=hunter2x"], "5eed")


def test_what_is_no_secret_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEAM", "physics")
    monkeypatch.setenv("MAX_TOKENS", "131072")
    composed = compose(["wandb.entity=${oc.env:TEAM}", "size=${oc.env:MAX_TOKENS}"], "5eed")
    assert composed.jobs[0].config.wandb.entity == "physics"
    assert composed.jobs[0].config.size == 131072
    assert compose(["wandb.entity=${oc.env:NOBODY,me}"], "5eee").jobs[0].config.wandb.entity == "me"


def test_variables_of_a_job_are_refused_for_nothing_would_have_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=r"env_set.*set variables in the environment"):
        compose(["+hydra.job.env_set.A_TOKEN=x"], "5eed")


# --- forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "secret"), OF_A_FORM.values(), ids=OF_A_FORM)
def test_a_secret_is_known_by_its_form(text: str, secret: str) -> None:
    assert secret in text
    told = without_secrets(text)
    assert secret not in told
    assert "***" in told
    assert without_secrets(told) == told


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KEY": "abc",
        "USE_TOKEN": "true",
        "AUTH_METHOD": "password",
        "TOKENIZERS_PARALLELISM": "false",
        "SSL_KEY_LOCATION": "/usr/lib",
        "MAX_TOKENS": "131072",
        "SECRET_STYLE": "------",
        "PASSWORD": "latency",
        "KEYBOARD": "qwertz-layout",
        "SSH_AUTH_SOCK": "/tmp/agent.123",
    }.items():
        monkeypatch.setenv(name, value)
    assert without_secrets(text) == text


def test_what_is_published_and_the_sources_are_as_they_are_without_secrets() -> None:
    texts = [*ROOT.glob("*.md"), *(ROOT / "experiments").rglob("*.md"), *(ROOT / "jaxaccel").rglob("*.py")]
    for path in [*texts, *(ROOT / "conf").rglob("*.yaml")]:
        if path.parent.name != "redact":
            content = path.read_bytes()
            assert document(path.name, content) == content, path


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("hunter2x", Kind.anywhere),
        ("swordfish", Kind.word),
        ("immutable", Kind.word),
        ("correcthorsebatterystaple", Kind.anywhere),
        ("12345678", Kind.number),
        ("0.5.12", Kind.number),
        ("/bPxRfiCYEXAMPLEKEY/K7MDENG", Kind.anywhere),
        *((value, Kind.never) for value in ("abc12", "true", "latency", "float32", "/usr/lib:/usr/bin")),
        *((value, Kind.never) for value in ("======", "aaaaaa", "Disabled", "direct", "~/key.pem")),
    ],
)
def test_a_value_is_hidden_as_far_as_it_can_be_told_from_other_words(value: str, kind: Kind) -> None:
    assert kind_of(value) is kind


def test_a_word_is_hidden_where_it_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "rainbow")
    assert without_secrets("rainbow, (rainbow) rainbows rainbow_x") == "***, (***) rainbows ***_x"
    monkeypatch.setenv("PASSWORD", "131072")
    assert without_secrets("pin 131072, 0.131072 and 1310720") == "pin ***, 0.131072 and 1310720"
    assert without_secrets("131072 rows", numbers=False) == "131072 rows"


def test_secrets_within_values_are_known_by_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:p%40ss-w0rd@host/simple")
    monkeypatch.setenv("BASIC_AUTH", "alice:w0nderland")
    monkeypatch.setenv("API_KEYS", "first-key-1,second-key-2")
    monkeypatch.setenv("JAVA_OPTS", "-Xmx1g -Dpassword=c0ffee-x")
    monkeypatch.setenv("GCP_CREDENTIALS", json.dumps({"private_key": PEM, "type": "service_account"}))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.example.com\n  login user\n  password n3trc-passw0rd\n")
    monkeypatch.setenv("NETRC", str(netrc))
    learn({"SET_BY_CODE_TOKEN": "of-a-dotenv-file"})
    for secret in (
        *("p%40ss-w0rd", "p@ss-w0rd", "w0nderland", "second-key-2", "c0ffee-x"),
        *(KEY_LINES[1], "n3trc-passw0rd", "of-a-dotenv-file"),
    ):
        assert without_secrets(f"<{secret}>") == "<***>", secret
    assert without_secrets("service_account of alice and user") == "service_account of alice and user"


ALPHABET = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    value=st.text(ALPHABET, min_size=6, max_size=60).filter(lambda v: kind_of(v) is Kind.anywhere),
    before=st.text(ALPHABET, max_size=20),
    after=st.text(ALPHABET, max_size=20),
)
def test_no_planted_value_is_left_in_any_encoding(value: str, before: str, after: str) -> None:
    with mock.patch.dict(os.environ, {"A_PLANTED_TOKEN": value}):
        record = make_failed("cpu", error=Problem(type="X", message=before + value + after, details=value))
        written = document("record.json", encode_record(record))
        error = decode_record(written).error
        assert error is not None
        assert value not in error.message
        assert value not in (error.details or "")
        plain = f"{before}{value}{after}"
        assert value not in without_secrets(plain)
        assert value not in all_without_secrets({"a": [plain, (plain,)]})["a"][0]
        encoded = [json.dumps(plain), repr(plain), quote(plain, safe="")]
        for text in (*encoded, f"{before} {value}\n{after}"):
            assert value not in without_secrets(text), text
        for told in (json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe="")):
            assert all(told not in without_secrets(text) for text in encoded if told in text)
        packed = base64.b64encode(plain.encode()).decode()
        assert without_secrets(packed) != packed or len(value.encode()) < 8


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=200))
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = without_secrets(text)
    assert without_secrets(once) == once


# --- ways out --------------------------------------------------------------------------------------


def test_a_record_keeps_its_numbers_and_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = make_timing([[0.123456, 654321.0]])
    record = make_record("cpu", timings={"latency": timing}, command="python -m x 654321 hunter2x")
    for name, value in {"PASSWORD": "hunter2x", "PIN": "654321", "OTP": "123456", "A_KEY": "latency"}.items():
        monkeypatch.setenv(name, value)
    read = decode_record(document("record.json", encode_record(record)))
    assert read == replace(record, command="python -m x *** ***")
    assert document("record.json", encode_record(read)) == encode_record(read)
    line = encode_record(record) + b"\n"
    assert document("records.jsonl", line * 2) == (encode_record(read) + b"\n") * 2
    assert document("x.csv", b"size,error\n654321,hunter2x\n") == b"size,error\n654321,***\n"
    assert document("x.bin", b"\xff\xfehunter2x") == b"\xff\xfehunter2x"


def test_a_folder_is_scrubbed_and_a_binary_file_with_a_secret_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2x")
    (tmp_path / "in").mkdir()
    contents = {
        "a.txt": b"it is hunter2x",
        "in/b.json": b'{"x": "hunter2x", "y": 1.50}',
        "c.json.gz": gzip.compress(b'{"x": "hunter2x"}'),
        "d.bin": b"\xff\x00hunter2x",
        "e.bin": b"\xff\x00harmless",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert scrub(tmp_path) == {"d.bin": "it held a secret"}
    assert (tmp_path / "a.txt").read_text() == "it is ***"
    assert (tmp_path / "in/b.json").read_text() == '{"x":"***","y":1.5}'
    assert gzip.decompress((tmp_path / "c.json.gz").read_bytes()) == b'{"x":"***"}'
    assert (tmp_path / "e.bin").read_bytes() == contents["e.bin"]


def test_a_stream_writes_no_secret_though_it_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2x")
    under = io.StringIO()
    stream = SafeStream(under)
    print("it is hun", end="", file=stream)
    assert under.getvalue() == ""
    print("ter2x", "and 1.5", file=stream)
    assert under.getvalue() == "it is *** and 1.5\n"
    stream.write("no end")
    stream.flush()
    assert under.getvalue().endswith("no end")
    assert stream.isatty() is False


def test_an_exception_that_nobody_expects_is_printed_without_secrets(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from jaxaccel.cli.exit import command\n"
        "@command\n"
        "def main(argv) -> int:\n"
        "    print('first', os.environ['A_TOKEN'], end='')\n"
        "    raise RuntimeError(os.environ['A_TOKEN'])\n"
        "main()\n"
    )
    environment = {**os.environ, "A_TOKEN": "t0ken-of-mine", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(program)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert "RuntimeError: ***" in done.stderr
    assert done.stdout == "first ***"


def test_what_a_worker_says_and_what_is_kept_of_it_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2x")
    replies = io.BytesIO()
    send(replies, Failure(error=Problem(type="X", message="it is hunter2x"), environment={"a": ["hunter2x"]}))
    store.save(make_failed("cpu", error=Problem(type="X", message="it is hunter2x")), tmp_path)
    page = Page(measured_at="2026-01-31T00:00:00+00:00", failed={"memory": "hunter2x is wrong"})
    Book(folder=tmp_path)._keep("today", page)
    for written in (replies.getvalue(), *(path.read_bytes() for path in tmp_path.glob("*.json"))):
        assert b"hunter2x" not in written
        assert b"***" in written
    (tmp_path / "record.json").write_bytes(
        encode_record(make_failed("cpu", error=Problem(type="X", message="it is hunter2x")))
    )
    (record,) = store.load_records([tmp_path / "record.json"])
    assert record.error == Problem(type="X", message="it is ***"), "of an earlier jaxaccel"


def test_streams_are_put_back_but_for_an_exception_that_is_still_to_be_printed() -> None:
    before = sys.stdout
    with safe_streams():
        assert isinstance(sys.stdout, SafeStream)
        with safe_streams():
            assert not isinstance(sys.stdout._stream, SafeStream)
        assert isinstance(sys.stdout, SafeStream)
    assert sys.stdout is before
    try:
        with pytest.raises(RuntimeError), safe_streams():
            raise RuntimeError
        assert isinstance(sys.stdout, SafeStream)
    finally:
        sys.stdout, sys.stderr = before, sys.stderr._stream  # type: ignore[attr-defined]


def test_every_command_begins_in_one_way() -> None:
    """What workers and W&B's client print is read by the processes that started them."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "jaxaccel").rglob("*.py")}
    mains = {path: text for path, text in sources.items() if re.search(r"\ndef main\(\s*arg", text)}
    found = {path: text for path, text in mains.items() if not {"worker", "wandb"} & {*path.parts}}
    front_door = found.pop(ROOT / "jaxaccel/__main__.py")
    assert front_door.count("return command(show)([])") == front_door.count(
        "def show("
    )  # or starts a command
    assert len(found) == len(COMMANDS)
    for path, text in found.items():
        assert "@command\ndef main(" in text, path


def test_folders_that_lead_to_people_are_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("SOME_TOKEN", "t0ken-of-hers")
    monkeypatch.chdir(tmp_path)
    told = f"/home/ada/data, /home/adalbert, {tmp_path}/run, {sys.prefix}/bin/python t0ken-of-hers"
    assert without_places(told) == "~/data, /home/adalbert, ./run, PYTHON/bin/python ***"


def test_the_root_of_all_folders_is_no_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    assert without_places("/usr/bin a/b") == "/usr/bin a/b"


def test_the_folder_of_caches_is_no_persons_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for end in ("", "/"):
        monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}/caches{end}")
        assert without_places(f"at {tmp_path}/caches/jaxaccel/xla") == "at CACHE/jaxaccel/xla"
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert without_places("of caches") == "of caches", "a relative one is no folder of caches"


@pytest.mark.slow
def test_long_texts_that_repeat_what_formats_look_for_do_not_stall() -> None:
    """Own code that printed a rule of 20,000 dashes stalled everything for half a minute."""
    script = (
        "from jaxaccel.records.redact import without_secrets\n"
        "from jaxaccel.records.redact.formats import FORMATS\n"
        "for hint in sorted({hint for format in FORMATS for hint in format.hints}):\n"
        "    for text in (hint, hint + 'a', hint + '-', hint + ' '):\n"
        "        without_secrets(text * (60_000 // len(text)))\n"
        "    without_secrets(hint + 'A' * 60_000)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=TIMEOUT_S,
        check=True,
    )
