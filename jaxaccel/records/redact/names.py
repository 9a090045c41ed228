"""Which environment variables, keys and labels are named like a secret."""

import re

# (^|_) and $: short words that mean a secret only when they stand alone. The lookarounds leave out words that
# merely contain one: MONKEY, KEYBOARD, COMPASS, AUTHOR, TOKENIZERS_PARALLELISM.
_SECRET = re.compile(
    r"(?<!MON)(?<!TUR)(?<!DON)(?<!HOT)KEY(?!BOARD|MAP|TIMEOUT|RING|WORD|STROKE|PAD|FRAME|NOTE|CHAIN)"
    r"|TOKEN(?!IZ)|SECRET|CREDENTIAL|(?<!COM)(?<!BY)(?<!TRES)PASS(?!ENGER|IVE|THROUGH|ES$)"
    r"|AUTH(?!OR(?!IZ))|JWT|COOKIE|WEBHOOK|BEARER|(?<!GO)PRIVATE|CONNECTION_STRING|DATABASE_URL"
    r"|(^|_)(PW|PAT|PIN|OTP|SAS)$|.PWD$|DSN$",
    re.IGNORECASE,
)
# How the names of settings about a secret end: none of these is one.
_ABOUT = re.compile(
    r"_(DIR|PATH|FILE|FILES|SOCK|SOCKET|ASKPASS|TYPE|METHOD|MODE|SIZE|BITS|LENGTH|LIMIT|COUNT|TIMEOUT|TTL|"
    r"EXPIRY|LIFETIME|ALGORITHM|ALG|BACKEND|PROVIDER|REGION|HOST|PORT|ENABLED|DISABLED|VERSION|REALM|USER|"
    r"USERNAME|EMAIL|NAME)$",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})  # the folder one is in


def is_secret(name: str) -> bool:
    """Whether an environment variable is named like one that holds a secret."""
    upper = name.upper()
    return upper not in _NOT_SECRET and not _ABOUT.search(name) and _SECRET.search(name) is not None


def is_password(name: str) -> bool:
    """Whether what it holds may be a number: of others, as MAX_TOKENS, a number is a setting."""
    return re.search(r"PASS|SECRET|PWD$|(^|_)(PW|PIN|OTP)$", name, re.IGNORECASE) is not None
