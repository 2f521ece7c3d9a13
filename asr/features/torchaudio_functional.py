"""torchaudio's functions, or an error that says what to install where its extension does not load."""

from __future__ import annotations

from asr.errors import DependencyError

try:
    from torchaudio.functional import forced_align, melscale_fbanks
except OSError as error:
    raise DependencyError(
        f"torchaudio does not load beside the installed torch ({error}). PyPI's torchaudio needs PyPI's torch, "
        "not a CPU-only build of it; `pip install --force-reinstall torch torchaudio` installs both from one place"
    ) from error

__all__ = ["forced_align", "melscale_fbanks"]
