"""Transcribing without torch: numpy, onnxruntime and soundfile are all it takes.

    import asr.runtime

    recognizer = asr.runtime.load("exp/mine-onnx")  # a folder that `asr export` wrote
    print(recognizer.transcribe("call.wav").text)

From the shell: `python -m asr.runtime exp/mine-onnx call.wav`.
"""

from asr.runtime.recognizer import OnnxRecognizer, load
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word

__all__ = ["OnnxRecognizer", "Transcript", "Word", "load"]
