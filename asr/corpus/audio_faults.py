"""Samples of an utterance → what is wrong with the recording: clipped, cut off, silent, raised to its rate and so on.

All of it comes from one pass over frames of about 32 ms, because large corpora are checked, too. The thresholds were
chosen on the training utterances of AN4 and yesno, none of which they accuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.audio.channels import mix_down
from asr.audio.speech_detector import SpeechDetector, is_speech
from asr.corpus.findings import Fault

Samples = NDArray[np.float32]
Floats = NDArray[np.float64]

_FRAME_S = 0.032
_LEAST_S = 0.3  # of less audio, levels say little
_STEP = 2.0**-15  # of 16-bit samples

_CLIPPED_SHARE = 0.0005  # of the samples, in runs of three or more at the highest or lowest value
_OFFSET = 0.02
_LOW_LEVEL_DB = -55.0  # of the loudest frames; AN4's quietest utterance has -40
_DEAD_CHANNEL_DB = -50.0  # below the loudest channel
_STEADY_DB = 6.0  # between the loudest and the quietest frames: nothing comes and goes, as speech does
_CUT_OFF_DB = -8.0  # the first or last 20 ms against the loudest frames
_CUT_OFF_CONTRAST_DB = 10.0  # without this much between loud and quiet frames, it is no speech that is cut
_BORDER_S = 0.02
_DROPOUT_S = 0.02
# The rounding noise of 16 bits is at -128 dB in each of 256 bands, and dither adds 5. AN4's noise is above -105.
_EMPTY_BAND_DB, _EMPTY_BAND_BELOW_DB = -117.0, -80.0
_USUAL_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# The fingerprint: cells of time by bands of frequency.
_TIMES, _BANDS = 20, 8
_LOWEST_HZ, _HIGHEST_HZ = 150.0, 3600.0  # what a copy at 8 kHz has, too
_DEPTH_DB = 25.0
_HEARD_DB = 23.0  # below the loudest frames: what counts for where the sound is


@dataclass(frozen=True)
class Heard:
    """What one pass over an utterance's samples gives.

    Attributes:
        faults: what is wrong.
        sound_s: for how long there is sound well above the noise.
        spread_s: standard deviation of the times at which there is sound: a copy has the same, also with more silence.
        fingerprint: `(cell,)` levels by time and frequency as bytes; the same for a copy that is louder or re-encoded.
            Empty if there is no sound.
    """

    faults: tuple[Fault, ...]
    sound_s: float = 0.0
    spread_s: float = 0.0
    fingerprint: bytes = b""


def examine_audio(channels: Samples, rate_hz: int, model_rate_hz: int) -> Heard:
    """Return what is wrong with an utterance's audio, and what it is compared with others by.

    Args:
        channels: `(channel, sample)`, as the file has them.
        rate_hz: their sample rate.
        model_rate_hz: the rate that the network hears. What is missing above half of it does not matter.
    """
    mono = mix_down(channels)
    if not np.any(mono):
        return Heard((Fault("silent", "silent: every sample is 0"),))
    offset = float(mono.mean())
    mono = mono - np.float32(offset)
    frames = _framed(mono, rate_hz)
    powers = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / frames.shape[1]
    levels_db = _decibels(powers)
    if np.sqrt(powers.max()) < 0.6 * _STEP:
        return Heard((Fault("silent", "silent: it holds nothing but rounding noise"),))
    spectra = _spectra(frames)
    ordered_db = np.sort(levels_db)
    loud_db, quiet_db = (float(ordered_db[int(share * (len(ordered_db) - 1))]) for share in (0.95, 0.05))
    faults = list(_channel_faults(channels))
    if loud_db < _LOW_LEVEL_DB:
        faults.append(Fault("low-level", f"its loudest parts have {loud_db:.0f} dBFS", loud_db))
    if len(mono) >= _LEAST_S * rate_hz:
        if abs(offset) > _OFFSET:
            faults.append(Fault("dc-offset", f"its samples are around {offset:+.3f} instead of 0", offset))
        if loud_db - quiet_db < _STEADY_DB and not _somebody_speaks(mono, rate_hz):
            faults.append(Fault("no-speech", f"nobody speaks: steady noise of {loud_db:.0f} dBFS", loud_db))
        elif loud_db - quiet_db >= _CUT_OFF_CONTRAST_DB:
            faults += _border_faults(mono, rate_hz, loud_db)
            faults += _dropouts(mono, np.float32(-offset), rate_hz)
            faults += _raised_rate(spectra, levels_db, loud_db, rate_hz, model_rate_hz)
    sounds = levels_db >= max(loud_db - _DEPTH_DB, quiet_db + 0.3 * (loud_db - quiet_db))
    spread_s, fingerprint = _fingerprint(spectra, rate_hz)
    return Heard(tuple(faults), float(sounds.sum()) * frames.shape[1] / rate_hz, spread_s, fingerprint)


def _framed(samples: Samples, rate_hz: int) -> Samples:
    """Return `(frame, sample)` of frames side by side, each a power of two long; a short rest is left out."""
    length = 1 << max(4, round(math.log2(_FRAME_S * rate_hz)))
    count = max(1, len(samples) // length)
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    return samples[: count * length].reshape(count, length)


def _spectra(frames: Samples) -> Samples:
    """Return `(frame, band)` powers; those of a frame's bands add up to about half of its mean square."""
    length = frames.shape[1]
    window = np.hanning(length).astype(np.float32)
    spectrum = np.fft.rfft(frames * window)
    powers: Samples = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    powers /= length * float(np.square(window).sum())
    return powers


def _decibels(powers: NDArray[np.floating[Any]] | np.floating[Any]) -> Floats:
    found: Floats = 10 * np.log10(np.maximum(np.asarray(powers, np.float64), 1e-16))
    return found


def _channel_faults(channels: Samples) -> Iterator[Fault]:
    """Yield whether a channel is clipped, and whether one is dead while another is not."""
    clipped = max(_clipped_share(channel) for channel in channels)
    if clipped >= _CLIPPED_SHARE:
        yield Fault("clipped", f"{100 * clipped:.2f} % of its samples are cut flat at the loudest level", clipped)
    if len(channels) > 1:
        centred = channels - channels.mean(axis=1, keepdims=True)
        levels_db = _decibels(np.square(centred).mean(axis=1))
        for channel in np.flatnonzero(levels_db < levels_db.max() + _DEAD_CHANNEL_DB).tolist():
            yield Fault("dead-channel", f"channel {channel} of {len(channels)} (counted from 0) is silent", channel)


def _clipped_share(samples: Samples) -> float:
    """Return the share of samples in runs of three or more at the highest or the lowest value.

    Speech reaches its peak in a sample or two. The loudest value need not be the largest that the format has, because
    a clipped recording may have been made quieter since.
    """
    flat = 0
    for extreme in (samples.max(), samples.min()):
        if abs(extreme) > 64 * _STEP:  # below, steps of the format look like it
            at = np.flatnonzero(np.abs(samples - extreme) <= min(1.5 * _STEP, 0.002 * abs(extreme)))
            inner = at[1:-1][(at[2:] - at[:-2]) == 2]
            flat += len(np.unique(np.concatenate([inner - 1, inner, inner + 1]))) if len(inner) else 0
    return flat / len(samples)


def _somebody_speaks(mono: Samples, rate_hz: int) -> bool:
    """Ask the speech detector, which takes longer than all the rest."""
    return any(is_speech(probability, False) for probability in SpeechDetector(rate_hz)(mono, last=True).tolist())


def _border_faults(centred: Samples, rate_hz: int, loud_db: float) -> Iterator[Fault]:
    """Yield where the recording begins or ends in full voice."""
    border = max(1, round(_BORDER_S * rate_hz))
    for samples, where in ((centred[:border], "begins"), (centred[-border:], "ends")):
        below_db = float(_decibels(np.mean(np.square(samples)))) - loud_db
        if below_db > _CUT_OFF_DB:
            yield Fault("cut-off", f"it {where} within a word, {below_db:+.0f} dB against its loudest parts", below_db)


def _dropouts(mono: Samples, zero: np.float32, rate_hz: int) -> Iterator[Fault]:
    """Yield whether samples were lost: runs of `zero` that begin and end in the middle of sound."""
    zeros = np.concatenate([[False], mono == zero, [False]])
    edges = np.flatnonzero(zeros[1:] != zeros[:-1])
    starts, ends = edges[::2], edges[1::2]
    long = (ends - starts >= _DROPOUT_S * rate_hz) & (starts > 0) & (ends < len(mono))
    around = max(1, round(0.005 * rate_hz))
    least = 0.1 * float(np.abs(mono).max())
    lost = [
        (start, end)
        for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True)
        if np.abs(mono[max(0, start - around) : start]).max() > least and np.abs(mono[end : end + around]).max() > least
    ]
    if lost:
        seconds = sum(end - start for start, end in lost) / rate_hz
        yield Fault("dropout", f"{seconds:.2f} s within its sound are 0, from {lost[0][0] / rate_hz:.2f} s on", seconds)


def _raised_rate(
    spectra: Samples, levels_db: Floats, loud_db: float, rate_hz: int, model_rate_hz: int
) -> Iterator[Fault]:
    """Yield above which frequency there is nothing, if that is well below what the rate could hold.

    Microphones and converters have noise at all frequencies. Where even the loudest frames have less than 16 bits can
    hold, the samples were computed from fewer.
    """
    loudest = spectra[np.argsort(levels_db)[-max(1, round(0.3 * len(levels_db))) :]].mean(axis=0)
    smooth = _decibels(np.convolve(loudest, np.full(5, 0.2), mode="same"))
    bands = len(smooth) - 1
    # In a shorter or longer frame the same noise is spread over fewer or more bands.
    top_db = float(_decibels(loudest[round(0.9 * bands) : round(0.97 * bands)].mean())) + 10 * math.log10(bands / 256)
    if top_db > _EMPTY_BAND_DB or top_db - loud_db > _EMPTY_BAND_BELOW_DB:
        return
    filled = int(np.flatnonzero(smooth > top_db + 10).max(initial=0))
    below_db = float(np.median(smooth[filled // 2 : round(0.9 * filled) + 1]))
    # Half-way down the cliff: the window lets some of what is below leak above.
    highest_hz = float(np.flatnonzero(smooth > (top_db + below_db) / 2).max(initial=0)) / bands * rate_hz / 2
    if highest_hz < 0.9 * min(rate_hz, model_rate_hz) / 2:
        from_hz = next(rate for rate in (*_USUAL_RATES_HZ, rate_hz) if rate / 2 > 0.97 * highest_hz)
        cause = f"raised from {from_hz} Hz" if from_hz < rate_hz else "cut by a codec or a filter"
        reason = f"no energy above {highest_hz:.0f} Hz at {rate_hz} Hz: probably {cause}"
        yield Fault("raised-rate", reason, highest_hz)


def _fingerprint(spectra: Samples, rate_hz: int) -> tuple[float, bytes]:
    """Return how the sound is spread over time, in seconds, and the fingerprint.

    Time is counted from the middle of the sound in units of its spread, so silence before or after changes nothing.
    Levels are those against the mean of all cells, so neither does the level. What is far below the loudest counts as
    silence, so codecs and a little noise change little.
    """
    frame_s = 2 * (spectra.shape[1] - 1) / rate_hz
    edges = np.geomspace(_LOWEST_HZ, min(_HIGHEST_HZ, 0.45 * rate_hz), _BANDS + 1)
    limits = np.unique(np.round(edges * frame_s).astype(int))
    if len(limits) <= _BANDS:
        return 0.0, b""
    energies = np.add.reduceat(spectra[:, : limits[-1]], limits[:-1], axis=1).astype(np.float64)
    levels_db = _decibels(energies.sum(axis=1))
    loud_db = np.sort(levels_db)[-max(1, len(levels_db) // 50)]
    weights = np.square(np.clip(levels_db - (loud_db - _HEARD_DB), 0, _HEARD_DB))
    weights /= weights.sum()
    times = np.arange(len(weights)) + 0.5
    middle = float(weights @ times)
    spread = math.sqrt(float(weights @ np.square(times - middle))) + 0.3
    at = np.clip(middle + spread * np.linspace(-2, 2, _TIMES + 1), 0, len(energies))
    whole = np.minimum(at.astype(int), len(energies) - 1)
    until = np.concatenate([np.zeros((1, _BANDS)), np.cumsum(energies, axis=0)])
    cells = np.diff(until[whole] + (at - whole)[:, None] * energies[whole], axis=0)
    cells_db = np.maximum(_decibels(cells / cells.max()), -30.0)
    centred = (cells_db - cells_db.mean()).ravel()
    largest = np.abs(centred).max()
    return spread * frame_s, np.round(centred * (127 / largest)).astype(np.int8).tobytes() if largest else b""
