"""What is built and installed: the wheel and the source archive have all that belongs in them, and nothing else."""

import re
import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from markdown_it import MarkdownIt

import asr

REPOSITORY = Path(__file__).parents[2]
SHIPPED = {"asr": "asr", "recipes": "asr/_recipes", "conf": "asr/_conf"}  # folders of the tree, and where they go


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the source archive of this tree. Nothing is downloaded."""
    if find_spec("hatchling") is None:
        pytest.skip("needs hatchling, which builds the package: pip install hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    """The wheel's files as pip would place them."""
    folder = tmp_path_factory.mktemp("site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_of_the_tree():
    """Return the files of the tree's shipped folders by their names in the wheel."""
    return {
        f"{place}/{path.relative_to(REPOSITORY / folder).as_posix()}": path
        for folder, place in SHIPPED.items()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    """Templates, scripts, styles, settings, recipes and py.typed; no tests, no caches."""
    expected = files_of_the_tree()
    with ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert sorted(found) == sorted(expected)
    assert [name for name, content in found.items() if content != expected[name].read_bytes()] == []
    suffixes = {Path(name).suffix for name in found}
    assert {".py", ".jinja", ".js", ".css", ".yaml", ".md"} <= suffixes
    assert "asr/py.typed" in found


def test_the_source_archive_has_what_the_tests_need_too(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("asr", "recipes", "conf", "tests", "benchmarks", "docs", "containers", ".github"):
        files = {
            path.relative_to(REPOSITORY).as_posix()
            for path in (REPOSITORY / folder).rglob("*")
            if path.is_file() and not {"__pycache__", "melodies"} & {*path.parts}
        }
        assert files, folder
        assert files - found == set()
    assert {
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "run.sh",
        "pyproject.toml",
        "hatch_build.py",
        "mkdocs.yml",
    } <= found
    assert [name for name in found if "__pycache__" in name or name.startswith(("data/", "exp/", ".venv/"))] == []


def test_the_version_is_that_of_the_package_and_has_an_entry_in_the_changelog(metadata, wheel):
    assert metadata["Version"] == asr.__version__
    assert wheel.name == f"asr-{asr.__version__}-py3-none-any.whl"
    assert f"\n## {asr.__version__} " in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_metadata_name_systems_pythons_and_no_invented_address(metadata):
    classifiers = metadata.get_all("Classifier")
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)} <= {*classifiers}
    assert [name for name in classifiers if name.startswith("Operating System")] == [
        *("Operating System :: MacOS", "Operating System :: Microsoft :: Windows", "Operating System :: POSIX :: Linux")
    ]
    assert metadata["Requires-Python"] == ">=3.10"
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert metadata.get_all("Project-URL") is None


def addresses(markdown):
    """Return the addresses of all links and pictures of a text, as another library finds them."""
    tokens = [
        child for block in MarkdownIt("commonmark").enable("table").parse(markdown) for child in block.children or ()
    ]
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens if token.type in ("link_open", "image")]
    return [address for address in found if address is not None]


def test_the_description_has_all_of_the_readme_and_no_link_that_is_dead_on_pypi(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert "# asr\n" in text
    assert "(Installing)" in text
    assert [address for address in addresses(text) if not address.startswith("https://")] == []


def test_once_the_repository_has_an_address_links_and_pictures_lead_there(tmp_path):
    for name in ("README.md", "LICENSE", "hatch_build.py", "asr/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("conf", "recipes"):
        (tmp_path / name).mkdir()
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    urls = '# [project.urls]\n# Repository = "https://github.com/USER/NAME"\n'
    assert urls in project
    (tmp_path / "pyproject.toml").write_text(project.replace(urls, urls.replace("# ", "")), encoding="utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    with ZipFile(wheel) as archive:
        text = archive.read(f"asr-{asr.__version__}.dist-info/METADATA").decode()
    there = [address.removeprefix("https://github.com/USER/NAME/") for address in addresses(text)]
    links = addresses((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    relative = [address for address in links if not address.startswith("https://")]
    assert [f"raw/HEAD/{name}" if name.endswith(".svg") else f"blob/HEAD/{name}" for name in relative] == [
        name for name in there if "/HEAD/" in name
    ]
    assert not set(relative) & set(there)
    assert all((REPOSITORY / name.partition("#")[0]).exists() for name in relative)


def test_twine_finds_nothing_wrong(built):
    pytest.importorskip("twine", reason="needs twine, which checks what is built: pip install twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("PASSED") == 2


def test_the_unpacked_wheel_finds_its_recipes_and_settings_outside_a_checkout(unpacked, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import asr\n"
        "from asr.preparing.recipes import recipe_names, recipes_folder, settings_file\n"
        "print(asr.__file__, recipes_folder(), settings_file('an4'), sorted(recipe_names(recipes_folder())), sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", code, str(unpacked)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    package, recipes, settings, names = result.stdout.splitlines()
    assert Path(package) == unpacked / "asr" / "__init__.py"
    assert Path(recipes) == unpacked / "asr" / "_recipes"
    assert Path(settings) == unpacked / "asr" / "_conf" / "an4.yaml"
    assert names == str(sorted(path.parent.name for path in (REPOSITORY / "recipes").glob("*/prepare.py")))


def test_workflows_test_every_python_and_system_of_the_classifiers(metadata):
    pythons = {name.rpartition(" ")[2] for name in metadata.get_all("Classifier") if ":: Python :: 3." in name}
    for name, job in (("tests", "tests"), ("release", "installed")):
        workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
        matrix = workflow["jobs"][job]["strategy"]["matrix"]
        assert {*matrix["python"]} == pythons
        assert matrix["system"] == ["ubuntu-latest", "macos-latest", "windows-latest"]


def test_only_the_job_that_publishes_may_do_more_than_read():
    """It needs the tests, and the wheel as it was installed everywhere."""
    for path in (REPOSITORY / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        more = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
        assert more == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})
    publish = yaml.safe_load((REPOSITORY / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"][
        "publish"
    ]
    assert {*publish["needs"]} == {"tests", "build", "installed"}
    assert publish["environment"] == "pypi"


def test_the_image_installs_what_the_runtime_and_the_extra_serve_need(metadata):
    text = (REPOSITORY / "containers" / "Containerfile").read_text(encoding="utf-8")
    (installed,) = re.findall(r"pip install --no-cache-dir \\\n((?:        .*\n)+)", text)
    extra = [wanted for wanted in metadata.get_all("Requires-Dist") if "extra == 'serve'" in wanted]
    served = {re.match(r"[\w-]+", wanted)[0].replace("-", "_") for wanted in extra}
    assert len(served) == len(extra) >= 5
    names = {name.replace("-", "_") for name in installed.split()} - {"\\"}
    assert names == {"numpy", "onnxruntime", "soundfile", "typer", "rich"} | served


def test_what_the_image_is_built_from_is_enough_for_the_same_wheel(wheel, tmp_path):
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for name in let_in:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=True)
    assert (tmp_path / "dist" / wheel.name).read_bytes() == wheel.read_bytes()
