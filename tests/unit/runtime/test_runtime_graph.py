"""Exported networks are held to what an export computes; all exports pass."""

import os
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.bundle.bundle import ModelBundle
from asr.errors import ModelError
from asr.exporting.onnx_graph import acoustic_graph
from asr.model.acoustic import AcousticModel
from asr.runtime import load
from asr.runtime.graph import OPERATORS, check_graph
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
TOKENS = TokenTable.from_texts(["abcd "])
ONE_DIRECTION = ("model.bidirectional=false", "features.cmvn=global", "model.lookahead_frames=3")


def network(*overrides: str, int8: bool = False) -> onnx.ModelProto:
    config = load_config(None, [*TINY, *overrides])
    torch.manual_seed(1)
    return acoustic_graph(AcousticModel(config, len(TOKENS)).eval(), int8=int8)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("rnn", ["lstm", "gru", "tanh", "relu"])
@pytest.mark.parametrize("overrides", [(), ONE_DIRECTION, ("features.sample_rate_hz=48000", "features.window_ms=100")])
def test_every_export_passes_the_check(rnn: str, overrides: tuple[str, ...], int8: bool) -> None:
    graph = network(f"model.rnn={rnn}", *overrides, int8=int8)
    check_graph(graph.SerializeToString())
    assert {node.op_type for node in graph.graph.node} <= OPERATORS.keys()


def refused(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_graph(model.SerializeToString())
    assert len(str(error.value)) < 300


def constant(values: object, kind: object = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), "added")


def test_operators_that_no_export_has_are_refused_by_name() -> None:
    for operator, domain in (("Loop", ""), ("If", ""), ("Scan", ""), ("Add", "evil"), ("DynamicQuantizeLSTM", "")):
        model = network()
        model.graph.node.append(helper.make_node(operator, ["waveform"], ["x"], domain=domain))
        refused(model, f"has the operator '{operator}'")


def test_subgraphs_functions_sparse_and_foreign_data_are_refused() -> None:
    model = network()
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))
    refused(model, "a setting with fields")
    model = network()
    model.functions.append(helper.make_function("evil", "f", ["x"], ["y"], [], []))
    refused(model, "a model with fields")
    model = network()
    model.graph.sparse_initializer.add()
    refused(model, "a graph with fields")
    model = network()
    model.opset_import.append(helper.make_opsetid("evil", 1))
    refused(model, "needs operators of 'evil'")
    model = network()
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="/etc/passwd")
    refused(model, "keeps its weights in other files")


def test_constants_of_other_kinds_and_sizes_are_refused() -> None:
    for tensor, message in (
        (constant([1.0], np.complex64), "of a kind that no export has"),
        (numpy_helper.from_array(np.array(["a"], object), "added"), "."),
        (constant([1 << 17], np.int64), "with an integer beyond"),
    ):
        model = network()
        model.graph.initializer.append(tensor)
        refused(model, message)
    model = network()
    model.graph.initializer[0].dims[0] += 1
    refused(model, "another size than its shape")


def test_what_is_computed_from_constants_when_loading_stays_small() -> None:
    column, row = np.ones((10_000, 1), np.float32), np.ones((1, 10_000), np.float32)
    for operator in ("Mul", "Add", "MatMul"):
        model = network()
        model.graph.initializer.extend([numpy_helper.from_array(column, "a"), numpy_helper.from_array(row, "b")])
        model.graph.node.append(helper.make_node(operator, ["a", "b"], ["c"]))
        refused(model, "MatMul of constants" if operator == "MatMul" else "computes 100000000 numbers from constants")
    model = network()
    model.graph.node[0].attribute.append(helper.make_attribute("hidden_size", 1 << 40))
    refused(model, "with an integer beyond")


def test_a_chain_of_constants_is_followed() -> None:
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "a0"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    model.graph.node.append(helper.make_node("Unsqueeze", ["a0", "axis"], ["column"]))
    model.graph.node.append(helper.make_node("Mul", ["a0", "column"], ["square"]))
    model.graph.node.append(helper.make_node("Concat", ["square"] * 100, ["long"], axis=0))
    refused(model, "computes 100000000 numbers from constants")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_network_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_graph(data)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(place: int, byte: int) -> None:
    data = bytearray(WHOLE)
    data[place % len(data)] = byte
    with suppress(ValueError):
        check_graph(bytes(data))


WHOLE = network().SerializeToString()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asr.exporting.export import export_onnx

    folder = tmp_path_factory.mktemp("exported")
    config = load_config(None, TINY)
    ModelBundle(config, TOKENS, AcousticModel(config, len(TOKENS))).save(folder / "model")
    export_onnx(folder / "model", folder / "onnx")
    return folder / "onnx"


def test_a_network_that_computes_nan_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) > 400:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    for name in ("model.json", "speech_detector.npz"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="computes no numbers") as error:
        load(tmp_path).transcribe(np.zeros(16000, np.float32), sample_rate_hz=16000, segment="none")
    assert str(tmp_path) in str(error.value)


def test_a_network_that_fails_while_it_runs_and_one_with_too_many_frames_are_refused(
    exported: Path, tmp_path: Path
) -> None:
    for name in ("model.json", "speech_detector.npz", "model.onnx"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    recognizer = load(tmp_path)
    with pytest.raises(ModelError, match="the network fails"):
        recognizer.log_posteriors(np.zeros(16000, np.float64))
    recognizer.frame_shift_s *= 2
    with pytest.raises(ModelError, match="more frames than its description says"):
        recognizer.log_posteriors(np.zeros(16000, np.float32))


def test_a_pipe_in_place_of_a_file_is_refused_at_once(exported: Path, tmp_path: Path) -> None:
    for name in ("model.json", "speech_detector.npz", "model.onnx"):
        for other in ("model.json", "speech_detector.npz", "model.onnx"):
            (tmp_path / other).unlink(missing_ok=True)
            (tmp_path / other).write_bytes((exported / other).read_bytes())
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(ModelError, match=f"{name}: a folder, a pipe or a device"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("conv1.bias", np.zeros(128, np.complex64)),
        ("conv1.bias", np.zeros(129, np.float32)),
        ("conv1.bias", np.full(128, np.nan, np.float32)),
        ("conv1.bias", np.array(["x"] * 128, object)),
        ("conv1.bias", None),
    ],
    ids=["complex", "longer", "nan", "objects", "a header of 100 GB"],
)
def test_a_speech_detector_of_other_kinds_is_refused(name: str, array: object, exported: Path, tmp_path: Path) -> None:
    for other in ("model.json", "model.onnx"):
        (tmp_path / other).write_bytes((exported / other).read_bytes())
    with np.load(exported / "speech_detector.npz") as whole:
        weights = dict(whole)
    path = tmp_path / "speech_detector.npz"
    np.savez(path, **{key: value for key, value in weights.items() if key != name})
    if array is not None:
        np.savez(path, **(weights | {name: array}))
    else:
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (25000000000,), }\n"
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(ModelError, match=r"speech_detector\.npz: the speech detector cannot be read"):
        load(tmp_path)
