"""Manifests of texts, whose audio does not exist: enough for what reads only manifests."""

import gzip
import json


def cut_line(number, text, *, speaker="anna", seconds=3.0, rate_hz=16000, language=None):
    name = f"u{number}"
    recording = {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": f"/audio/{name}.wav"}],
        "sampling_rate": rate_hz,
        "num_samples": round(seconds * rate_hz),
        "duration": round(seconds * rate_hz) / rate_hz,
        "channel_ids": [0],
    }
    part = {"start": 0.0, "duration": recording["duration"], "channel": 0}
    supervision = {"id": name, "recording_id": name, **part, "text": text, "speaker": speaker, "language": language}
    return json.dumps({"id": name, **part, "supervisions": [supervision], "recording": recording, "type": "MonoCut"})


def write_split(data, split, lines):
    data.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode(errors="surrogatepass")
    (data / f"{split}.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))


def write_data(data, texts, **of_each):
    """Write a data folder whose train has these texts, and whose dev and test have the first of them."""
    write_split(data, "train", (cut_line(n, text, **of_each) for n, text in enumerate(texts)))
    for split in ("dev", "test"):
        write_split(data, split, [cut_line(f"-{split}", texts[0], **{**of_each, "speaker": split})])
    return data
