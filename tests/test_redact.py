"""What of the environment is a secret, and that none is in a text."""

import sys
from pathlib import Path

import pytest

from jaxaccel.compose import compose
from jaxaccel.config import BadInputError
from jaxaccel.redact import all_without_secrets, holds_secret, is_secret, without_places, without_secrets


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
        "b": ["x ***"],
    }


@pytest.mark.parametrize(
    "argument",
    ["+workload.key=0123456789abcdef-secret", "wandb.project=https://me:pa55@host/x"],
)
def test_an_argument_that_holds_a_secret_is_refused_without_repeating_it(
    argument: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_TOKEN", "0123456789abcdef-secret")
    assert not holds_secret("workload=matvec")
    with pytest.raises(BadInputError, match="holds a secret") as caught:
        compose([argument], "5eed")
    assert "0123456789abcdef" not in str(caught.value)
    assert "pa55" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
