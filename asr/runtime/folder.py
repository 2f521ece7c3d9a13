"""The description in an exported folder: all that the runtime has to know besides the network.

It is `{"format": 1, "sample_rate_hz": …, "frame_shift_s": …, "tokens": […]}`. `asr/bundle/files.py` lists the other
files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.bundle.files import ONNX_DESCRIPTION
from asr.errors import ModelError
from asr.files import read_json, write_text
from asr.text.tokens import BLANK, BLANK_SYMBOL

INPUT, OUTPUT = "waveform", "log_posteriors"  # of the network

_FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What the runtime knows of a network.

    Attributes:
        sample_rate_hz: of the audio that the network takes.
        frame_shift_s: time between its output frames.
        tokens: the text of each token; token 0 is the blank.
    """

    sample_rate_hz: int
    frame_shift_s: float
    tokens: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        content = {"format": _FORMAT} | asdict(self)
        write_text(folder / ONNX_DESCRIPTION, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read `model.json`.

        Raises:
            ModelError: `asr export` did not write the folder, or the file is damaged.
        """
        path = folder / ONNX_DESCRIPTION
        way_out = "the runtime needs a folder that `asr export` wrote; export it again"
        content = read_json(path, ModelError, "the model's description", way_out=way_out)
        try:
            if content["format"] != _FORMAT:
                raise ModelError(
                    f"{path}: format {content['format']!r} is not {_FORMAT}, which this version reads; export it again"
                )
            loaded = cls(content["sample_rate_hz"], float(content["frame_shift_s"]), tuple(content["tokens"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ModelError(f"{path}: not the description of an exported model ({error!r}); export it again") from None
        fault = loaded._fault()
        if fault:
            raise ModelError(f"{path}: {fault}; export the model again")
        return loaded

    def _fault(self) -> str | None:
        if not isinstance(self.sample_rate_hz, int) or not 4000 <= self.sample_rate_hz <= 48000:
            return f"sample_rate_hz is {self.sample_rate_hz!r}, not an integer from 4000 to 48000"
        if not 0 < self.frame_shift_s <= 1:
            return f"frame_shift_s is {self.frame_shift_s!r}, not above 0 and at most 1"
        if not all(isinstance(token, str) for token in self.tokens) or self.tokens[: BLANK + 1] != (BLANK_SYMBOL,):
            return f"tokens are not a list of texts that begins with {BLANK_SYMBOL!r}"
        return None
