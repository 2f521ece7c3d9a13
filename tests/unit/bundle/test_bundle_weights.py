"""Weights from anybody are refused by file and name unless they are those of the network that is described."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from asr.bundle import tensors
from asr.bundle.bundle import ModelBundle
from asr.errors import LanguageModelError, ModelError
from asr.exporting.export import export_torch
from asr.features.batch import collate
from asr.inference.decoder import Decoder
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.model.acoustic import AcousticModel
from asr.reading import TensorForm, read_tensor_forms
from asr.settings_file import load_config, parse_rnnlm_settings
from asr.text.tokens import TokenTable
from tests.conftest import TINY

CONFIG = load_config(None, TINY)
TOKENS = TokenTable.from_texts(["abcd "])
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ModelBundle(CONFIG, TOKENS, AcousticModel(CONFIG, len(TOKENS))).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("hold", [True, False])
def test_where_pages_hold_a_file_weights_are_copied(folder: Path, hold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows replaces no file that is in somebody's memory. What is copied does not change with the file."""
    monkeypatch.setattr(tensors, "_PAGES_HOLD_FILES", hold)
    found = tensors.read_tensors(folder / WEIGHTS, ModelError)
    before = {name: tensor.clone() for name, tensor in found.items()}
    with open(folder / WEIGHTS, "r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(bytes((folder / WEIGHTS).stat().st_size - file.tell()))
    assert all(torch.equal(found[name], before[name]) for name in found) is hold


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    weights = load_file(folder / WEIGHTS)
    if tensor is None:
        del weights[name]
    else:
        weights[name] = tensor
    save_file(weights, folder / WEIGHTS)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        ModelBundle.load(folder)
    assert str(folder / WEIGHTS) in str(error.value)
    assert len(str(error.value)) < 500 + len(str(folder))
    return str(error.value)


@pytest.mark.parametrize("kind", ["int64", "bool", "complex64", "float64", "float16", "bfloat16", "int8", "uint8"])
def test_weights_of_another_kind_are_refused_by_name(kind: str, folder: Path) -> None:
    bias = load_file(folder / WEIGHTS)["output.bias"]
    change(folder, "output.bias", bias.to(getattr(torch, kind)))
    assert "output.bias is of the kind" in refusal(folder)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["output.bias", "layers.0.rnn.weight_hh_l0", "cmvn.mean"])
def test_weights_that_are_not_finite_are_refused_by_name(number: str, name: str, folder: Path) -> None:
    weight = load_file(folder / WEIGHTS)[name]
    weight.view(-1)[-1] = float(number)
    change(folder, name, weight)
    assert f"{name} holds numbers that are not finite" in refusal(folder)


def test_large_weights_whose_sum_is_beyond_float32_are_finite(folder: Path) -> None:
    change(folder, "output.bias", torch.full((len(TOKENS),), 3e38))
    assert ModelBundle.load(folder).model.output.bias[0] == 3e38


@pytest.mark.parametrize("scale", [float("nan"), 3e38], ids=["nan", "beyond float32 when multiplied"])
def test_scales_of_8_bits_that_give_no_finite_weights_are_refused(scale: float, folder: Path) -> None:
    export_torch(folder, folder / "int8", int8=True)
    change(folder / "int8", "output.weight.scale", torch.full((len(TOKENS),), scale))
    assert "output.weight holds numbers that are not finite" in refusal(folder / "int8")


def test_missing_surplus_and_misshapen_weights_are_refused_by_name(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    change(folder, "output.bias", None)
    assert "output.bias is missing" in refusal(folder)
    (folder / WEIGHTS).write_bytes(whole)
    change(folder, "secret\n" + "x" * 10_000, torch.zeros(1))
    assert "is not one of its weights" in refusal(folder)
    (folder / WEIGHTS).write_bytes(whole)
    change(folder, "output.bias", torch.zeros(3, 2))
    assert f"output.bias is 3 × 2, not {len(TOKENS)}" in refusal(folder)


@pytest.mark.parametrize("encoder", ["recurrent", "conformer"])
def test_settings_of_a_network_larger_than_memory_are_compared_before_it_is_built(encoder: str, folder: Path) -> None:
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["model"] |= {"encoder": encoder, "layers": 20, "hidden_size": 4096, "subsampling_channels": 1024}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "does not fit config.yaml and tokens.json" in refusal(folder)  # 30 GiB of a recurrent one


def header(content: object, data: bytes = b"") -> bytes:
    text = json.dumps(content).encode() if not isinstance(content, bytes) else content
    return struct.pack("<Q", len(text)) + text + data


BIAS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        header(b""),
        header(b"\xff\xff"),
        header([]),
        header({"a": 1}),
        header({"a": {"dtype": 7, "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"__metadata__": {"a": 1}, "a": BIAS}, bytes(8)),
        header({"__metadata__": [], "a": BIAS}, bytes(8)),
        header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}', bytes(8)),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [10**40], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header(b"[" * 100_000),
    ],
    ids=lambda content: repr(content[8:50]),
)
def test_a_damaged_file_of_weights_is_named(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    refusal(folder)


def test_the_forms_are_those_that_safetensors_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2, 0), "b": torch.zeros(()).bool()}, path, metadata={"note": "x"})
    assert read_tensor_forms(path, ModelError, "it") == (
        {"a": TensorForm("F32", (2, 0)), "b": TensorForm("BOOL", ())},
        {"note": "x"},
    )


def test_the_order_of_loading_and_a_file_that_changes_later_do_not_matter(folder: Path) -> None:
    bundle = ModelBundle.load(folder)
    bias = bundle.model.output.bias.clone()
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(8)
    assert torch.equal(bundle.model.output.bias, bias)


def test_a_network_that_computes_no_numbers_is_refused_instead_of_hearing_silence(folder: Path) -> None:
    change(folder, "output.weight", torch.full_like(load_file(folder / WEIGHTS)["output.weight"], 3e38))
    decoder = Decoder(ModelBundle.load(folder))
    with pytest.raises(ModelError, match="computes no numbers") as error:
        decoder.decode(collate([torch.randn(16000)], [[]], [""]))
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "letters"}, "'letters' is not 'tokens' or 'words'"),
        ({"symbols": ["</s>", "<unk>", "a", "a"]}, "the unit 'a' occurs twice"),
        ({"symbols": ["a", "b", "c", "d"]}, "the units begin with"),
        ({"symbols": []}, "the units begin with"),
        ({"symbols": {"</s>": 1}}, "symbols"),
        ({"symbols": ["</s>", "<unk>", "a", 3]}, "symbols.3"),
        ({"settings": {"layers": "many"}}, "layers: 'many' is not a whole number"),
        ({"settings": {"layers": 20, "hidden_size": 8192}}, "does not fit what its header says"),
        ({"settings": {"softmax": "adaptive"}}, "adaptive needs 40 units"),
        ({"settings": None}, "settings"),
    ],
    ids=str,
)
def test_a_recurrent_language_model_whose_header_is_wrong_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rnnlm.safetensors"
    lm = RnnLm(parse_rnnlm_settings(["hidden_size=8", "layers=1"]), LmUnits("words", ("</s>", "<unk>", "a", "b")))
    lm.save(path)
    tensors, (_, metadata) = load_file(path), read_tensor_forms(path, ModelError, "it")
    save_file(tensors, path, metadata={"rnnlm": json.dumps(json.loads(metadata["rnnlm"]) | change)})
    with pytest.raises(LanguageModelError, match=message) as error:
        RnnLm.load(path)
    assert str(path) in str(error.value)


def test_networks_are_loaded_without_torchs_compiler(tmp_path: Path) -> None:
    for rnn in ("lstm", "gru", "tanh", "relu"):
        config = load_config(None, [*TINY, f"model.rnn={rnn}"])
        ModelBundle(config, TOKENS, AcousticModel(config, len(TOKENS))).save(tmp_path / rnn)
    for kind in ("plain", "adaptive"):
        units = LmUnits("words", ("</s>", "<unk>", *map(str, range(50))))
        lm = RnnLm(parse_rnnlm_settings(["hidden_size=16", f"softmax={kind}"]), units)
        lm.save(tmp_path / f"{kind}.safetensors")
    code = (
        "import sys; from pathlib import Path\n"
        "from asr.bundle.bundle import ModelBundle; from asr.lm.rnnlm import RnnLm\n"
        "for path in Path(sys.argv[1]).iterdir(): ModelBundle.load(path) if path.is_dir() else RnnLm.load(path)\n"
        "print([name for name in sys.modules if name.startswith('torch._inductor')])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_flipped_bit_in_the_weights_is_noticed_and_files_without_a_checksum_are_read(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for place in (start, (start + len(whole)) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        (folder / WEIGHTS).write_bytes(changed)
        assert "the checksum of the weights is another" in refusal(folder)
    (folder / WEIGHTS).write_bytes(whole)
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    assert read_tensor_forms(folder / WEIGHTS, ModelError, "it")[1] == {}
    ModelBundle.load(folder)


def test_the_checksum_is_that_of_the_file_s_data(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    header = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    noted = header.pop("__metadata__")["crc32"]
    data = whole[8 + struct.unpack("<Q", whole[:8])[0] :]
    parts = [data[slice(*header[name]["data_offsets"])] for name in sorted(header)]
    assert int(noted, 16) == zlib.crc32(b"".join(parts))


def test_a_recurrent_language_model_that_computes_no_numbers_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    lm = RnnLm(parse_rnnlm_settings(["hidden_size=8"]), LmUnits("words", ("</s>", "<unk>", "a", "b")))
    with torch.no_grad():
        lm.embedding.weight.fill_(3e38)
    lm.save(tmp_path / "rnnlm.safetensors")
    with pytest.raises(LanguageModelError, match=r"rnnlm\.safetensors: the network computes no numbers"):
        RnnLm.load(tmp_path / "rnnlm.safetensors")
