"""A module that is there, and does not import."""

import a_package_that_is_not_there  # noqa: F401
