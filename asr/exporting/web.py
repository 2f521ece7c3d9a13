"""A folder with an exported model → the same folder with a page that transcribes in the browser, also offline.

    index.html page.js element.js …      the page
    worker.js recognizer/                the recogniser in JavaScript, which computes beside the page
    open_microphone.js microphone.js     the microphone's samples
    service_worker.js                    keeps all files in the browser
    package.json serve.mjs               what `npm install` gets, what `npm start` runs
    model/                               the exported model; `asr.runtime` loads it too

Networks run in onnxruntime-web, which npm gets. The rest is plain JavaScript, in `templates/web/`. No file is bundled
or translated, and nothing is asked from another host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr.bundle import files
from asr.files import to_json, write_text
from asr.pages import page

ONNXRUNTIME_WEB = "1.30.0"  # one version, because the page's files are kept as one, and tests compared it with Python
_ONNXRUNTIME_WEB_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_WEB = Path(__file__).with_name("templates") / "web"
_SHARED_SCRIPTS = Path(page.__file__).with_name("templates")
_SHARED = ("element.js", "recordings.js", "open_microphone.js", "microphone.js")
_SHARED_MODULES = {"fourier.js": "fourier"}  # functions of scripts that the recogniser imports
_COPIED = ("page.js", "worker.js", "serve.mjs", "recognizer/*.js")
_NOT_KEPT = ("serve.mjs", files.CARD, files.ONNX_SPEECH_DETECTOR, files.ONNX_SPEECH_DETECTOR_LICENCE)


def write_page(folder: Path, title: str) -> None:
    """Write the page and its recogniser beside the model.

    Args:
        folder: where the exported model is in the folder `files.WEB_MODEL`.
        title: the page's, the name of the model.
    """
    sources = [source for pattern in _COPIED for source in sorted(_WEB.glob(pattern))]
    texts = {source.relative_to(_WEB).as_posix(): source.read_text("utf-8") for source in sources}
    texts |= {name: (_SHARED_SCRIPTS / name).read_text("utf-8") for name in _SHARED}
    for name, function in _SHARED_MODULES.items():
        script = (_SHARED_SCRIPTS / name).read_text("utf-8")
        texts[f"recognizer/{name}"] = f"{script}\nexport {{{function}}};\n"
    texts["index.html"] = _rendered("index.html", {"title": title})
    texts["package.json"] = _rendered("package.json", {"onnxruntime_web": ONNXRUNTIME_WEB})
    for name, text in texts.items():
        write_text(folder / name, text)
    model = folder / files.WEB_MODEL
    names = sorted({path.name for path in model.iterdir()} - {*_NOT_KEPT, files.WEB_FILES})
    write_text(model / files.WEB_FILES, to_json(names))
    in_model = [f"{files.WEB_MODEL}/{name}" for name in [*names, files.WEB_FILES]]
    own = sorted(name for name in [*texts, *in_model] if name not in _NOT_KEPT)
    runtime = [f"node_modules/onnxruntime-web/dist/{name}" for name in _ONNXRUNTIME_WEB_FILES]
    values = {"version": _version(folder, own), "files": ["./", *own, *runtime]}
    write_text(folder / "service_worker.js", _rendered("service_worker.js", values))


def is_foreign(folder: Path) -> bool:
    """Return whether a folder has a page that no export wrote."""
    return (folder / "index.html").exists() and not (folder / files.WEB_MODEL / files.ONNX_DESCRIPTION).is_file()


def _rendered(name: str, values: Mapping[str, Any]) -> str:
    return page.render("asr.exporting", f"web/{name}.jinja", values)


def _version(folder: Path, names: Iterable[str]) -> str:
    """Return a name for the content of files; other content has another one."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]
