"""Datasets in and features out, on the user's machine."""

from ..old_paths import add_old_paths

add_old_paths(__name__)
