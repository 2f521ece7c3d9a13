"""The rules of the house: which room imports which, small files, nothing unpickled, a quick start."""

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY, tone_speech

from asr.bundle.bundle import ModelBundle
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.unit.reporting.report_folder import Spoken, write_folder

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "asr"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path for folder in ("asr", "recipes", "benchmarks", "tests") for path in (REPOSITORY / folder).rglob("*.py")
)

# In the order in which data flow: a room imports only what stands before it. Everyone may import BASE.
BASE = [
    *("errors", "paths", "files", "reading", "machine", "plotting", "records"),
    *("search_config", "config", "settings_file"),
]
FLOW = [
    *("audio", "text", "corpus", "importing", "preparing", "features", "model", "pages", "transcript", "bundle"),
    *("sharing", "scoring", "reporting", "lm", "decoding"),
    *("training", "inference", "tuning", "segmenting", "labelling", "reviewing", "bulk", "runtime", "exporting"),
    *("serving", "stages", "cli"),
]
ORDER = [*BASE, *FLOW]
MAY_IMPORT = {room: {room, *ORDER[:place]} for place, room in enumerate(ORDER)} | {
    # What runs without torch, pydantic and the rest; tests/unit/runtime runs it with numpy and onnxruntime alone.
    "runtime": {
        *("errors", "paths", "files", "reading", "runtime", "audio", "text", "transcript"),
        *("bundle", "sharing", "lm", "decoding"),
    },
    # The door and the public API lead to every room.
    "cli": {*ORDER, "__init__"},
    "__init__": {*ORDER},
    "__main__": {"cli", "machine"},
}
# Neither torch nor what loads it may be imported in these rooms.
WITHOUT_TORCH = [
    *("errors", "paths", "search_config", "config", "files", "reading", "plotting", "settings_file"),
    *("audio", "text", "transcript", "pages", "sharing", "scoring", "reporting", "decoding", "runtime"),
]
LOADS_TORCH = {"torch", "torchaudio", "lightning_fabric", "lhotse"}
MOST_LINES = 400
MOST_FILES = 285
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNPICKLING_CALLS = {
    *("torch.load", "torch.jit.load", "torch.serialization.load"),
    *("fabric.load", "self._fabric.load"),  # call torch.load
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load"),
}


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree):
    """Yield (line, dotted module) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it in full"
            for alias in node.names:
                # `from asr import text` means asr.text; `from asr.text import tokens` means asr.text too.
                yield node.lineno, f"{node.module}.{alias.name}"


@cache  # several rules look at each file
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def violations_of_direction(room, tree):
    """Return the imports that lead the wrong way, as `line: module`."""
    wrong = []
    for line, module in imports_of(tree):
        parts = module.split(".")
        if parts[0] != "asr":
            continue
        if module == "asr.__version__":  # a constant of the package, which is imported before any of its modules
            continue
        # `import asr` and public names, as in `from asr import load`, lead to every room.
        target = parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "__init__"
        if target not in MAY_IMPORT[room]:
            wrong.append(f"{line}: {module}")
    return wrong


def test_every_file_stands_in_a_known_room():
    strangers = sorted({room_of(path) for path in MODULES} - MAY_IMPORT.keys())
    assert strangers == [], "say in MAY_IMPORT what the new room may import, and why in CONTRIBUTING.md"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_rooms_before_it(path):
    assert violations_of_direction(room_of(path), parse(path)) == []


@pytest.mark.parametrize(
    ("room", "source", "allowed"),
    [
        ("model", "from asr.text.tokens import BLANK", True),
        ("model", "from asr.decoding.beam import beam_search", False),
        ("model", "from asr import decoding", False),
        ("model", "def f():\n    import asr.decoding.beam", False),
        ("corpus", "import asr", False),
        ("corpus", "from asr import load", False),
        ("bulk", "from asr import __version__", True),
        ("inference", "from asr.tuning.tune import tune", False),
        ("training", "from asr.inference.recognizer import load", False),
        ("scoring", "from asr.cli.main import run", False),
        ("runtime", "from asr.transcript.words import Decoded", True),
        ("runtime", "from asr.config import Config", False),
        ("runtime", "from asr.model.acoustic import AcousticModel", False),
        ("inference", "from asr.runtime import load", False),
        ("files", "from asr.config import Config", False),
        ("settings_file", "from asr.files import write_text", True),
    ],
)
def test_the_rule_of_directions_itself_holds(room, source, allowed):
    assert (violations_of_direction(room, ast.parse(source)) == []) is allowed


def test_no_modules_import_each_other():
    """Rooms cannot, by the rule above; neither may modules of one room, at the top or within a function."""
    names = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in MODULES}
    imported = {
        name: {
            module if module in names else module.rpartition(".")[0]
            for _, module in imports_of(parse(path))
            if module in names or module.rpartition(".")[0] in names
        }
        for name, path in names.items()
    }
    sorter = graphlib.TopologicalSorter({name: found - {"asr.__init__"} for name, found in imported.items()})
    sorter.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_without_torch_loads_none(room):
    modules = sorted(
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if room_of(path) == room and path.stem != "__main__"
    )
    assert modules
    imported = {module for path in MODULES if room_of(path) == room for _, module in imports_of(parse(path))}
    assert {module for module in imported if module.split(".")[0] in LOADS_TORCH} == set()
    loaded, _ = modules_loaded_by("".join(f"import {module}\n" for module in modules))
    assert loaded.isdisjoint(LOADS_TORCH)


def test_there_are_no_more_files_than_a_reader_can_know():
    files = [path for path in MODULES if path.name != "__init__.py" or path.parent == PACKAGE]
    assert len(files) <= MOST_FILES, "fold what is only read together, or say in CONTRIBUTING.md why it grows"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_has_one_purpose_and_says_so_by_size_and_name(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, "past about 400 lines it is two files"
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, "name it after what it does"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled(path):
    assert unpickling(parse(path)) == []


def unpickling(tree):
    """Return the places that could run code hidden in a data file, as `line: what`."""
    found = [f"{line}: {name}" for line, name in imports_of(tree) if name.split(".")[0] in UNPICKLERS]
    found += [f"{line}: {name}" for line, name in imports_of(tree) if name in {"torch.load", "yaml.load"}]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.endswith("load") and ast.unparse(node) in UNPICKLING_CALLS:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append(f"{node.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\nstate = torch.load('a', weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import yaml\nyaml.load('a', yaml.Loader)",
    ],
)
def test_the_rule_against_unpickling_itself_holds(source):
    assert unpickling(ast.parse(source)) != []


def modules_loaded_by(code):
    """Run the code in a fresh interpreter and return the names of all modules loaded by then."""
    report = "\nimport sys\nprint('\\nLOADED', *sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code + report], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rsplit("LOADED", 1)[1].split()), result.stdout


def test_importing_the_package_loads_neither_torch_nor_numpy():
    loaded, _ = modules_loaded_by("import asr")
    assert "asr" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "lhotse", "librosa", "pydantic"})


def run_asr(arguments):
    """Return the code that runs `asr` with arguments and fails if it does."""
    return (
        "import sys\n"
        f"sys.argv = ['asr', *{list(map(str, arguments))!r}]\n"
        "from asr.cli.main import run\n"
        "try:\n    run()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["transcribe", "--help"], ["score", "--help"], ["compare", "--help"]]
)
def test_asking_for_help_loads_no_torch(arguments):
    loaded, output = modules_loaded_by(run_asr(arguments))
    assert "Usage" in output
    assert loaded.isdisjoint({"torch", "torchaudio", "lhotse", "librosa", "numpy"})


def test_scoring_and_comparing_folders_loads_no_torch(tmp_path):
    for name in "ab":
        write_folder(tmp_path / name, {"u": Spoken("ab cd", "ab")})  # with audio and posteriors
    loaded, _ = modules_loaded_by(
        f"import asr\nfolders = [{str(tmp_path / 'a')!r}, {str(tmp_path / 'b')!r}]\n"
        f"asr.score(folders[0])\nasr.compare(folders, out={str(tmp_path / 'page.html')!r})"
    )
    assert 'id="audio-0"' in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "page.html").exists()
    assert "torch" not in loaded


@pytest.mark.parametrize("options", [[], ["--hotword", "ab"]], ids=["greedy", "beam"])
def test_transcribing_loads_nothing_of_estimation_packing_tuning_scoring_and_training(tmp_path, options):
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    audio = tone_speech("ab cd", np.random.default_rng(1))
    soundfile.write(tmp_path / "a.wav", audio, 16000)
    arguments = ["transcribe", tmp_path / "model", tmp_path / "a.wav", *options, "--segment", "none"]
    loaded, _ = modules_loaded_by(run_asr(arguments))
    assert {"torch", "asr.inference.recognizer", "asr.decoding.beam"} <= loaded
    wrong = ("asr.training", "asr.tuning", "asr.corpus", "asr.importing", "asr.preparing", "asr.lm.kneser_ney")
    wrong += ("asr.lm.estimate", "asr.features.augment")
    wrong += ("asr.scoring", "asr.reporting", "asr.exporting", "lhotse", "lightning_fabric")
    wrong += ("jiwer", "matplotlib", "jinja2", "librosa")
    assert [name for name in sorted(loaded) if f"{name}.".startswith(tuple(f"{part}." for part in wrong))] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_files_that_a_document_names_exist(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:asr|tests|benchmarks|conf|recipes)/[\w/.]+)`", text))
    invented = {name for name in named if "mine" in Path(name).parts or "mine.yaml" in name}
    assert sorted(name for name in named - invented if not (REPOSITORY / name).exists()) == []


def bodies():
    """Yield the number of lines of each function's body, without signature and docstring, and its place."""
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[ast.get_docstring(node) is not None :]
                if body:
                    yield body[-1].end_lineno - body[0].lineno + 1, f"{name_of(path)}:{node.lineno} {node.name}"


def test_functions_are_short():
    lines = sorted(bodies())
    assert lines[-1][0] <= 70
    assert lines[int(0.95 * len(lines))][0] <= 35
