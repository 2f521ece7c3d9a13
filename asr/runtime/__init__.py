"""Audio → transcripts without torch; only numpy, onnxruntime and soundfile are needed.

    import asr.runtime

    recognizer = asr.runtime.load("exp/mine-onnx")  # a folder that `asr export` wrote
    print(recognizer.transcribe("call.wav"))

From the shell: `python -m asr.runtime exp/mine-onnx call.wav`.
"""

from asr.runtime.recognizer import Method, OnnxRecognizer, load
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word

__all__ = ["Method", "OnnxRecognizer", "Transcript", "Word", "load"]
