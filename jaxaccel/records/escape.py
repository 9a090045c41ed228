"""Text from others (records, exceptions, file names) made safe for each place where it is shown or written.

Nothing here changes ordinary text. `inert` shows what a terminal, a browser or an editor would obey; the
other functions also escape what their own kind of output would take for syntax. tests/lint/test_layering.py
keeps other modules from escaping by hand.
"""

import csv
import html as _html
import io
import json
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

LINE = 5_000  # characters of a line
TEXT = 20_000  # of a traceback, or of other text that has lines
LINES = 400
NAME = 80  # of a file name
MULTILINE = ("details", "traceback")  # what of records and of messages may have several lines
STACKED = 4  # marks on one letter; more of them paint over the lines above

_MARKUP = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]|~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the last four as Excel reads them
_NOTIFIES = re.compile(r"[@#]|\bGH-(?=\d)", re.IGNORECASE)
# Where a semicolon ends a cell, a quotation mark after it begins the next one.
_AFTER_SEMICOLON = re.compile(r"(;[\s\"]*)(?=[=+\-@＝＋－＠])")
_LISTED = re.compile(r"(?:[-+=](?=$|\s|[-=])|\d+(?=[.)](?:\s|$)))")  # what begins a list, a rule or a heading


# --- for every output ------------------------------------------------------------------------------


def inert(text: str, most: int | None = LINE) -> str:
    """One line, in which control, format and bidirectional characters are shown as Python's escapes.

    Longer text than `most` is clipped in the middle, which says how much is missing.
    """
    text = clip(text, most)
    if text.isascii() and text.isprintable():
        return text
    shown, stacked = [], 0
    for character in text:
        stacked = stacked + 1 if unicodedata.category(character).startswith("M") else 0
        if character.isprintable() and stacked <= STACKED:
            shown.append(character)
        elif unicodedata.category(character) == "Zs":
            shown.append(" ")
        else:
            shown.append(_escape(character))
    return "".join(shown)


def lines(text: str, most: int | None = None, count: int | None = None) -> str:
    """The same of text that may have several lines: ends of lines stay, and tabs become spaces."""
    parts = clip(text, most).replace("\r\n", "\n").split("\n")
    if count is not None and len(parts) > count:
        half = (count - 1) // 2  # the line in between counts too
        parts = [*parts[:half], f"… {len(parts) - 2 * half} more lines …", *parts[-half:]]
    return "\n".join(inert(part.expandtabs(4), None) for part in parts)


def clip(text: str, most: int | None = LINE) -> str:
    """The text, or `most` characters: its beginning, how much is missing, and its end."""
    if most is None or len(text) <= most:
        return text
    head, missing, tail = cut(len(text), most)
    return text[:head] + missing + text[len(text) - tail :]


def cut(length: int, most: int) -> tuple[int, str, int]:
    """How many characters of a long text `clip` shows of its beginning, the words in between, and of its end.

    All of it is no longer than `most`: a record that is read again must not be clipped again.
    """
    shown = max(0, most - len(f" … {length} more characters … "))
    tail = shown // 4
    return shown - tail, f" … {length - shown} more characters … ", tail


def report(text: str) -> str:
    """A traceback, or the last words of a process: lines, as many and as long as anybody reads."""
    return lines(text, TEXT, LINES)


def everywhere(value: Any, multiline: Sequence[str] | None = None) -> Any:
    """Nested data with all its text inert, names included; the same object where nothing had to change.

    multiline: the fields of dataclasses that may have several lines, which `report` clips; None lets all
    have some. The names in a mapping are text of others, too.
    """

    def made(name: str | None, value: Any) -> Any:
        if isinstance(value, str):
            if multiline is None:
                return lines(value)
            return report(value) if name in multiline else inert(value)
        if isinstance(value, Mapping):
            found = {made(None, key): made(None, entry) for key, entry in value.items()}
            same = all(
                new is old and value[old] is found[new] for new, old in zip(found, value, strict=False)
            )
            return value if same and len(found) == len(value) else found
        if isinstance(value, list | tuple):
            if {*map(type, value)} <= {int, float}:  # of which a figure has many
                return value
            new = [made(name, entry) for entry in value]
            same = all(one is other for one, other in zip(new, value, strict=True))
            return value if same else type(value)(new)
        if is_dataclass(value) and not isinstance(value, type):
            before = {entry.name: getattr(value, entry.name) for entry in fields(value)}
            after = {name: made(name, entry) for name, entry in before.items()}
            changed = {name: entry for name, entry in after.items() if entry is not before[name]}
            return replace(value, **changed) if changed else value
        return value

    return made(None, value)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


# --- for one kind of output each -------------------------------------------------------------------


def terminal(text: str) -> str:
    """For a terminal: nothing moves the cursor, changes colours, or writes from right to left."""
    return lines(text)


def markdown(text: str) -> str:
    """Words that Markdown shows as they are, on one line: no markup, no link, and nobody is notified."""
    words = " ".join(inert(" ".join(text.split()), None).translate(_MARKUP).split())
    if found := _LISTED.match(words):
        at = found.end() if found[0].isdigit() else 0
        words = f"{words[:at]}\\{words[at:]}"
    words = words.replace("://", "\\://").replace("www.", "www\\.")
    # GitHub looks for people and issues after Markdown has been read, when no backslash is left.
    return _NOTIFIES.sub(r"\g<0><!-- -->", words)


def html(text: str) -> str:
    """Text of an element, as HTML has it; not for an attribute."""
    return _html.escape(lines(text), quote=False)


def plotly(text: str) -> str:
    """Text of a Plotly figure: no tag, no %{...}, by which it would put in other text, and no $TeX$."""
    return html(text).replace("%{", "%&#123;").replace("$", "&#36;")


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under a line of all their columns' names, as CSV; nothing where there are none.

    Where a text begins like a formula, an apostrophe stands before it: spreadsheets would compute it.
    """
    if not rows:
        return ""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, names))
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    begins = value.lstrip().startswith(_FORMULA) or value.startswith(_FORMULA)
    # Where a comma is the decimal point, spreadsheets take a semicolon for the end of a cell.
    words = _AFTER_SEMICOLON.sub(r"\1'", inert(value))
    return f"'{words}" if begins else words


def json_text(text: str) -> str:
    """A JSON document, in which characters that a terminal obeys are escaped as JSON escapes them."""
    parts = text.split("\n")
    if all(part.isprintable() for part in parts):
        return text
    return "\n".join("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in part) for part in parts)


def shell(words: Sequence[str]) -> str:
    """A command line that has each of the words as one argument."""
    return shlex.join(words)


def command(line: str) -> str:
    """A command line from a record: one of jaxaccel's with each word quoted, and any other as one word."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    ours = words[:2] == ["python", "-m"] and len(words) > 2 and words[2].partition(".")[0] == "jaxaccel"
    return inert(shell(words if ours else [line]))


def python(value: Any) -> str:
    """A literal for the source of a Python script, of ASCII alone.

    **Raises** TypeError for what is neither text, nor a number, None, nor a container of these.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return ascii(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python(name)}: {python(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(python, value)) + "]"
    raise TypeError(f"a script's literal must be plain data, got {type(value).__name__}")


def docstring(text: str) -> str:
    """Words inside a docstring between three quotation marks: they can't end it, and escape nothing."""
    return inert(text, 500).replace("\\", "/").replace('"', "'")


def file_name(words: Sequence[str], most: int = NAME) -> str:
    """One name of a file or folder, of letters, digits, `.`, `_` and `-`: it leads to no other folder."""
    name = "-".join(
        "".join(c if (c.isascii() and c.isalnum()) or c in "._" else "_" for c in w) for w in words
    )
    return name[:most].lstrip(".-").rstrip(".") or "_"
