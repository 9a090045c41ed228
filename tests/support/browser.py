"""The browser in which tests look at the page, and why there may be none."""

import importlib.util
import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
WHY = (
    "no Chromium is installed (Debian: apt install chromium)"
    if CHROMIUM is None
    else None
    if importlib.util.find_spec("playwright")
    else "playwright is not installed (pip install 'jaxaccel[test]')"
)
in_browser = pytest.mark.skipif(WHY is not None, reason=str(WHY))
