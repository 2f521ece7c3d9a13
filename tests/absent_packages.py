"""A Python process that has some packages only."""

from __future__ import annotations

from collections.abc import Collection


def only(packages: Collection[str]) -> str:
    """Return code that lets a process import these packages and those of Python, and no other ones."""
    return f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        of_python = package in sys.stdlib_module_names or package.startswith("_sysconfigdata")
        if package not in {set(packages)!r} and not of_python:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
