"""A module that fails as it is imported."""

LOOKED_UP = {}["missing"]
