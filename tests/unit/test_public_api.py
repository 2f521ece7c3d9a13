"""What users call and catch: every public name resolves, is typed and documented, and every error is public."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import asr
from asr import errors

PACKAGE = Path(asr.__file__).parent
NAMES = sorted(set(asr.__all__) - {"__version__"})
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(asr, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(asr, name))]


def methods_of(name):
    """Return the public methods and properties that an exported class defines itself, and its constructor."""
    found = {}
    for method, value in vars(getattr(asr, name)).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        written = inspect.isfunction(function) and "<string>" not in function.__code__.co_filename
        if written and (not method.startswith("_") or method == "__init__"):
            found[f"{name}.{method}"] = function
    return found


CALLABLES = {name: getattr(asr, name) for name in FUNCTIONS} | {
    place: method for name in CLASSES for place, method in methods_of(name).items()
}


def raised_in(function):
    """Return the names of the errors of this package in the `raise` statements of a function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raises = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None)
    called = (exc.func if isinstance(exc, ast.Call) else exc for exc in raises)
    return {name.id for name in called if isinstance(name, ast.Name) and hasattr(errors, name.id)}


def documented(function):
    """Return the errors in the section `Raises` of a docstring, e.g. both of `ModelError, TokenError: …`."""
    _, _, section = (inspect.getdoc(function) or "").partition("Raises:\n")
    items = re.findall(r"^ {4}([A-Z]\w+(?:, [A-Z]\w+)*):", section, re.MULTILINE)
    return {name for item in items for name in item.split(", ")}


def test_there_are_functions_classes_and_errors():
    assert {"load", "transcribe_files"} <= set(FUNCTIONS)
    assert {"Recognizer", "Transcript", "AudioError"} <= set(CLASSES)
    assert set(NAMES) == {*FUNCTIONS, *CLASSES}


def test_the_lists_of_public_names_agree():
    listed = {name for names in asr._HOMES.values() for name in names}
    tree = ast.parse(Path(asr.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    for_type_checkers = {
        alias.name: statement.module for statement in block.body for alias in getattr(statement, "names", ())
    }
    assert asr.__all__ == sorted(asr.__all__)
    assert listed == set(NAMES)
    assert for_type_checkers == {name: home for home, names in asr._HOMES.items() for name in names}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented_and_at_home_where_it_is_said_to_be(name):
    value = getattr(asr, name)
    assert value.__name__ == name
    assert value.__module__ == asr._HOME_OF[name]
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "the docstring that dataclass makes says nothing"


@pytest.mark.parametrize("place", CALLABLES)
def test_a_public_function_is_typed_and_documented_with_the_errors_it_raises(place):
    function = CALLABLES[place]
    signature = inspect.signature(function)
    untyped = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    assert untyped == []
    assert signature.return_annotation is not signature.empty
    assert function.__doc__
    missing = raised_in(function) - documented(function)
    assert missing == set(), "the section Raises lacks them"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_use_case_says_which_errors_to_catch_and_they_are_public(name):
    found = documented(getattr(asr, name))
    assert found, "no section Raises"
    assert {error for error in found if error not in asr.__all__ and not hasattr(builtins, error)} == set()


def test_every_error_of_the_package_is_public_and_documented():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    bases = {
        node.name: {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"AsrError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    assert {"AudioError", "LanguageModelError"} <= found
    assert sorted(found - set(asr.__all__)) == []
    for name in found:
        assert issubclass(getattr(errors, name), errors.AsrError)
        assert f"`{name}`" in errors.__doc__ or name == "AsrError", "the table of errors lacks it"


def test_looking_around_loads_no_heavy_library_and_every_name_can_be_imported_at_once():
    code = (
        "import sys, asr\n"
        "assert set(asr.__all__) <= set(dir(asr)) and '__doc__' in dir(asr)\n"
        "asr.AudioError, asr.__version__\n"
        "heavy = {'torch', 'numpy', 'lhotse', 'pydantic', 'rich', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "before = set(vars()); from asr import *\n"
        "assert set(asr.__all__) <= set(vars())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_name_that_does_not_exist_is_named():
    with pytest.raises(AttributeError, match=r"^module 'asr' has no attribute 'transcribe'$"):
        asr.transcribe  # noqa: B018
