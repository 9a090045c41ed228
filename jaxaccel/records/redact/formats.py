"""Secrets that are recognised by their form, or by the label before them, whoever they belong to."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HIDDEN = "***"

_LABEL = (
    r"pass(?:word|wd|phrase|code)|secret(?:[_-]?(?:access)?[_-]?key)?|authtoken|credentials?"
    r"|(?:api|access|account|private|signing)[_-]?key"
)
_SIGN = r"(?P<sign>\s*(?:=>|:|=)\s*)"
_VALUE = r"""(?:(?P<q>\\?["'])(?P<quoted>(?:(?!(?P=q)).)+)(?P=q)|(?P<bare>[^\s"'`&,;(){}\[\]<>|]{6,}))"""
# What stands behind a label and is no secret: a type, a placeholder of a template, an attribute, a call.
_NO_VALUE = re.compile(
    r"\*+$|\$\{|\$\(|\$[A-Z_]+$|%[sdr(]|\{\w*[}!:]|<[\w -]+>?$|\.\.+$"
    r"|(?:none|null|true|false)$|b?float\d+|u?int\d+|complex\d+"
    r"|(?:[a-z_]\w*\.)+[a-z_]\w*$|os\.(?:environ|getenv)"
    r"|[\W_]*$|(.)\1*$|(?:api_?|access_?|secret_?)?(?:password|passwd|secret|token|key)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form of secrets. `hints`: without one of them, in small letters, a text holds none of the form.

    hidden: what of a match is to be hidden, as a span of the text; None: nothing.
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    hidden: Callable[[re.Match[str]], tuple[int, int] | None] = re.Match.span


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """The name of the format, begin and end of each secret in a text. They may overlap."""
    small = text.lower()
    for form in FORMATS:
        if any(hint in small for hint in form.hints):
            for match in form.pattern.finditer(text):
                if span := form.hidden(match):
                    yield form.name, *span


def without(text: str) -> str:
    """The text with `***` in place of each."""
    parts, at = [], 0
    for begin, end in sorted((begin, end) for _, begin, end in spans(text)):
        if begin >= at:
            parts += [text[at:begin], HIDDEN]
        at = max(at, end)
    return "".join([*parts, text[at:]]) if parts else text


def labelled(text: str) -> Iterator[str]:
    """The values that stand in a text behind a label such as `password=`."""
    for name, begin, end in spans(text):
        if name == _BY_LABEL:
            yield text[begin:end]


def in_urls(text: str) -> Iterator[str]:
    """What stands in a text between :// and @."""
    for name, begin, end in spans(text):
        if name == _IN_URL:
            yield text[begin:end]


def is_label(name: object) -> bool:
    """Whether the name of a value is such a label."""
    return isinstance(name, str) and re.search(rf"(?:{_LABEL})$", name, re.IGNORECASE) is not None


def _group(match: re.Match[str]) -> tuple[int, int]:
    return match.span(1)


def _value(match: re.Match[str]) -> tuple[int, int] | None:
    """The value behind a label, unless it is code, a type or prose."""
    if match["quoted"] is not None:
        told, begin = match["quoted"], match.start("quoted")
        return (begin, begin + len(told)) if len(told) >= 4 and not _NO_VALUE.match(told) else None
    told, begin = match["bare"].rstrip(".:"), match.start("bare")
    if _NO_VALUE.match(told) or match.string[match.end() :].startswith(("(", "[", "{")):
        return None
    if re.fullmatch(r"[\d._]+", told) and "pass" not in match[0].lower():  # SECRET_BYTES = 16_000
        return None
    if ":" in match["sign"] and not re.search(r"\d", told):  # "password: required" is a sentence
        return None
    return begin, begin + len(told)


def _token(match: re.Match[str]) -> tuple[int, int] | None:
    """The same of `token`, which most programs that handle text use for something else."""
    told = match["bare"] if match["quoted"] is None else match["quoted"]
    likely = len(told) >= 8 and re.search(r"\d", told) and re.search(r"[A-Za-z]", told)
    return _value(match) if likely and re.fullmatch(r"[\w.+/=~-]+", told) else None


_BY_LABEL, _IN_URL = "a value behind a label", "credentials in a URL"
_BEGIN, _END = (rf"-----{word} [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----" for word in ("BEGIN", "END"))
_NEXT = r"(?:\s|\\[rn])"  # the end of a line, maybe as a literal has it
FORMATS = (
    Format(
        name="a private key",
        hints=("private key",),
        # Also where the beginning or the end has been cut off.
        pattern=re.compile(
            rf"{_BEGIN}(?:[\s\S]{{0,20000}}?{_END}"
            rf"|(?:{_NEXT}[\w-]+: [^\n\\]*)*(?:(?:{_NEXT})*[A-Za-z0-9+/=]{{8,}})*)"
            rf"|(?<![A-Za-z0-9+/=])(?:(?>[A-Za-z0-9+/=]{{16,}})(?:{_NEXT})+)+{_END}"
        ),
    ),
    Format(
        name=_IN_URL,
        hints=("://",),
        # user:password@ or user@; a password with / in it, but not a port and a path.
        pattern=re.compile(
            r"://((?:[^/\s:@\"'<>]{0,200}:(?!\d+(?:[/?#\s]|$))[^\s\"'<>]{1,400}|[^/\s\"'<>]{1,400})@)"
        ),
        hidden=lambda match: (match.start(1), match.end(1) - 1),
    ),
    Format(
        name="a key in a URL",
        hints=("?", "&"),
        pattern=re.compile(
            r"[?&](?:sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature|access_token|token|key|"
            r"api_?key|auth)=([^&\s\"'<>#]{8,})",
            re.IGNORECASE,
        ),
        hidden=_group,
    ),
    Format(
        name="an AWS key id",
        hints=("akia", "asia", "abia", "acca"),
        pattern=re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ),
    Format(
        name="a GitHub token",
        hints=("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        pattern=re.compile(r"(?:gh[pousr]_[A-Za-z0-9]|github_pat_\w)\w{15,}"),
    ),
    Format(
        name="a service's token",
        hints=(
            *("hf_", "api_org_", "glpat-", "npm_", "pypi-", "dckr_pat_", "dop_v1_", "nvapi-", "wandb_v1_"),
            *("xox", "xapp-", "aiza", "ya29.", "gocspx-", "sk-", "sk_", "rk_", "sg.", "hooks.slack.com"),
        ),
        pattern=re.compile(
            r"(?<![A-Za-z0-9])(?:"
            r"(?:hf_|api_org_|npm_)[A-Za-z0-9]{20,}"
            r"|(?:glpat-|pypi-|dckr_pat_|dop_v1_|nvapi-|wandb_v1_)[\w-]{20,}"
            r"|xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[\w/]{10,}"
            r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"
            r"|sk-(?=[\w-]{0,200}\d)[\w-]{20,}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"
            r"|SG\.[\w-]{16,}\.[\w-]{16,})"
        ),
    ),
    Format(
        name="a JSON web token",
        hints=("eyj",),
        pattern=re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)*"),
    ),
    Format(
        name="an Authorization header",
        hints=("bearer", "authorization"),
        pattern=re.compile(
            r"""authorization["']?\s*[:=]\s*["']?(?:basic|bearer|token|digest)\s+([^\s"',;*]{6,})"""
            r"""|authorization["']?\s*[:=]\s*["']?((?=\S{0,200}\d)[^\s"',;*]{8,})"""
            r"|\bbearer\s+((?=\S{0,200}\d)[\w.~+/=-]{8,})",
            re.IGNORECASE,
        ),
        hidden=lambda match: match.span(match.lastindex or 0),
    ),
    Format(
        name="a W&B key",
        hints=("wandb", "w&b", "api key", "api_key", "apikey", "api-key", "api.wandb.ai"),
        pattern=re.compile(
            r"(?:wandb|w&b|api[ _-]?key)[^\n]{0,80}?(?<![A-Za-z0-9])((?:local-)?[0-9a-f]{40})(?![A-Za-z0-9])",
            re.IGNORECASE,
        ),
        hidden=_group,
    ),
    Format(
        name=_BY_LABEL,
        hints=(
            *(
                "password",
                "passwd",
                "passphrase",
                "passcode",
                "secret",
                "authtoken",
                "credential",
                "_key",
                "-key",
            ),
            *("apikey", "accesskey", "accountkey", "privatekey", "signingkey"),
        ),
        pattern=re.compile(rf"""(?:{_LABEL})[\w-]{{0,60}}(?:\\?["'])?{_SIGN}{_VALUE}""", re.IGNORECASE),
        hidden=_value,
    ),
    Format(
        name=_BY_LABEL,
        hints=("token",),
        pattern=re.compile(rf"""token(?:\\?["'])?{_SIGN}{_VALUE}""", re.IGNORECASE),
        hidden=_token,
    ),
    Format(
        name=_BY_LABEL,
        hints=("--",),  # an option, and its value as the next word
        pattern=re.compile(
            rf"(?<![\w-])--(?:[\w-]{{0,60}}-)?(?:{_LABEL}|token)[\w-]{{0,60}}(?P<sign> +){_VALUE}",
            re.IGNORECASE,
        ),
        hidden=_value,
    ),
)
