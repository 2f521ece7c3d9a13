"""A recording → a figure of its waveform and spectrogram and, with a model, of its posteriors and words.

Torch is loaded only if there is a model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.audio.blocks import audio_blocks
from asr.audio.segment import segments
from asr.audio.sources import Source, source_name
from asr.config import FeatureSettings
from asr.errors import AudioError, ConfigError
from asr.files import printable
from asr.plotting import BLUE, check_format, save_figure, styled_figure
from asr.text.tokens import BLANK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asr.inference.decoder import Decoder
    from asr.transcript.words import Word

LONGEST_S = 60.0
"""A longer part of a recording does not fit into a readable figure."""

# Inches: the least width, that of a second and that of a written word; around the axes; heights of the axes.
_LEAST_IN, _SECOND_IN, _WORD_IN, _MARGIN_IN = 8.0, 0.45, 0.15, 0.9
_WAVEFORM_IN, _SPECTROGRAM_IN, _TOKEN_IN, _HEADING_IN = 0.9, 1.8, 0.13, 0.35
_WORD_POINTS, _TOKEN_POINTS = 9, 7
# A token that is less probable than this in all frames has no row.
_SHOWN_POSTERIOR = 0.1
_DEPTH_DB = 80.0  # from the lightest to the darkest point of the spectrogram
_TICKS_PER_IN = 1.2  # numbers below the axis of time, at most
_ENVELOPE_POINTS = 4000  # of the waveform: more than the pixels across


@dataclass(frozen=True)
class PlotReport:
    """What was plotted.

    Attributes:
        path: the figure's file.
        start_s: where the plotted part of the recording begins.
        end_s: where it ends.
        words: what the model recognised in it, with times in the recording; None without a model.
    """

    path: Path
    start_s: float
    end_s: float
    words: tuple[Word, ...] | None


def plot(
    audio: Source,
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> PlotReport:
    """Write a figure of a recording: waveform and log-mel spectrogram, over seconds.

    With a model, the figure also shows the posteriors of its tokens in each frame, and the words with their times, as
    `asr.load(model).transcribe(audio)` recognises them.

    Args:
        audio: a path of an audio or video file, `-` for standard input, an open binary file or the bytes of one.
        out: the figure to write; its name ends in .png, .svg or .pdf.
        model: a model folder.
        start_s: where in the recording to begin.
        duration_s: how much of it to plot, at most 60 s; None for all that follows.

    Raises:
        AsrError: the name of `out` has another ending.
        AudioError: the audio cannot be used, is too long, or ends before `start_s`.
        ConfigError: `start_s` or `duration_s` is out of range.
        ModelError: the model folder is missing, incomplete or damaged.
    """
    out = Path(out)
    check_format(out)
    if start_s < 0:
        raise ConfigError(f"start_s={start_s:g}: must be 0 or more")
    if duration_s is not None and not 0 < duration_s <= LONGEST_S:
        raise ConfigError(f"duration_s={duration_s:g}: must be more than 0 and at most {LONGEST_S:g}")
    decoder, features = None, FeatureSettings()
    if model is not None:
        from asr.inference.decoder import Decoder

        decoder = Decoder.load(model)
        features = decoder.bundle.config.features
    name = source_name(audio) or "the recording"
    samples = _part(audio, name, features.sample_rate_hz, start_s, duration_s)
    recording = _Recording(printable(Path(name).name), samples, features, start_s)
    heard = None if decoder is None else _hear(decoder, recording)
    try:
        _write(out, recording, heard)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        # librosa keeps what it compiles in files of its own, and names none of them on a full disk.
        raise OSError(error.errno, f"cannot be drawn ({error.strerror})", os.fspath(out)) from error
    return PlotReport(out, start_s, recording.end_s, None if heard is None else heard.words)


@dataclass(frozen=True)
class _Recording:
    """The part of a recording that is plotted: samples `(sample,)` and where in the recording they begin."""

    name: str
    samples: NDArray[np.float32]
    features: FeatureSettings
    start_s: float

    @property
    def rate_hz(self) -> int:
        return self.features.sample_rate_hz

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / self.rate_hz


@dataclass(frozen=True)
class _Heard:
    """What a model heard: posteriors `(frame, token)` of each segment with the time of its first frame, and words."""

    posteriors: tuple[tuple[float, NDArray[np.float32]], ...]
    frame_shift_s: float
    tokens: tuple[str, ...]
    words: tuple[Word, ...]


def _part(audio: Source, name: str, rate_hz: int, start_s: float, duration_s: float | None) -> NDArray[np.float32]:
    """Return the samples of a part of a recording; what follows it is not read."""
    first = round(start_s * rate_hz)
    last = first + round((duration_s or LONGEST_S) * rate_hz)
    kept: list[NDArray[np.float32]] = []
    read = 0
    for block in audio_blocks(audio, rate_hz):
        kept.append(block[max(0, first - read) : max(0, last - read)])
        read += len(block)
        if read > last:
            break
    if duration_s is None and read > last:
        raise AudioError(
            f"{name}: more than {LONGEST_S:g} s do not fit into a figure; choose a part with --start and --duration "
            "(from Python: start_s= and duration_s=)"
        )
    samples = np.concatenate(kept)
    if len(samples) == 0:
        raise AudioError(f"{name}: lasts {read / rate_hz:.2f} s, so nothing is left from {start_s:g} s on")
    return samples


def _hear(decoder: Decoder, recording: _Recording) -> _Heard:
    """Recognise the recording in segments, as `Recognizer.transcribe` does."""
    from asr.features.batch import collate_segments

    rate_hz = recording.rate_hz
    posteriors, words = [], []
    spoken, moments = decoder.of_one_speaker(segments([recording.samples], rate_hz))
    for segment in spoken:
        start_s = recording.start_s + segment.start / rate_hz
        log_posteriors, lengths = decoder.log_posteriors(collate_segments([segment], moments))
        (decoded,) = decoder.understand(log_posteriors, lengths, [segment.waveform])
        words += decoder.words(decoded, start_s)
        posteriors.append((start_s, log_posteriors[0, : int(lengths[0])].exp().cpu().numpy()))
    return _Heard(tuple(posteriors), decoder.model.frame_shift_s, decoder.bundle.tokens.texts, tuple(words))


def _write(path: Path, recording: _Recording, heard: _Heard | None) -> None:
    """Draw everything, one above the other, and write the figure."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    duration_s = recording.end_s - recording.start_s
    written = 0 if heard is None else len(heard.words)
    width_in = max(_LEAST_IN, _SECOND_IN * duration_s + _MARGIN_IN, _WORD_IN * written + _MARGIN_IN)
    heights = [_WAVEFORM_IN, _SPECTROGRAM_IN]
    if heard is not None:
        rows = _shown_tokens(heard)
        labels = _WordLabels.fitting(heard.words, recording, (width_in - _MARGIN_IN) / duration_s)
        heights += [_TOKEN_IN * (len(rows) + 1), labels.height_in]
    with styled_figure(width_in, sum(heights) + _HEADING_IN * (len(heights) + 1)) as figure:
        waveform, spectrogram, *others = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _draw_waveform(waveform, recording)
        _draw_spectrogram(spectrogram, recording)
        if heard is not None:
            posteriors, words = others
            _draw_posteriors(posteriors, heard, rows)
            _draw_words(words, heard.words, labels)
        figure.suptitle(recording.name, parse_math=False, fontsize="large")
        lowest = figure.axes[-1]
        lowest.set(xlim=(recording.start_s, recording.end_s), xlabel="seconds")
        # librosa has taken the numbers away
        lowest.xaxis.set_major_locator(MaxNLocator(round(_TICKS_PER_IN * width_in), steps=[1, 2, 5, 10]))
        lowest.xaxis.set_major_formatter(ScalarFormatter())
        save_figure(figure, path)


def _draw_waveform(axes: Axes, recording: _Recording) -> None:
    from librosa.display import waveshow

    waveshow(
        recording.samples,
        sr=recording.rate_hz,
        offset=recording.start_s,
        max_points=_ENVELOPE_POINTS,
        axis=None,
        ax=axes,
        color=BLUE,
        linewidth=0.5,
    )
    highest = max(float(np.abs(recording.samples).max()), 1e-3)
    axes.set_ylim(-1.05 * highest, 1.05 * highest)
    axes.set_title("waveform", loc="left")
    axes.set_ylabel("amplitude")


def _draw_spectrogram(axes: Axes, recording: _Recording) -> None:
    """Draw the energies of the mel bands that a network sees, with librosa, whose mel scale and filters they have.

    As in the network, a frame's mean does not count, and the recording stays as it is beyond its ends.
    """
    from librosa import power_to_db, stft
    from librosa.display import specshow
    from librosa.feature import melspectrogram

    features, rate_hz = recording.features, recording.rate_hz
    window = round(features.window_ms * rate_hz / 1000)
    hop = round(features.hop_ms * rate_hz / 1000)
    fft = 1 << (window - 1).bit_length()
    samples = np.pad(recording.samples, fft // 2, mode="edge")
    spectrum = stft(samples, n_fft=fft, win_length=window, hop_length=hop, center=False)
    offset = stft(np.ones(fft, np.float32), n_fft=fft, win_length=window, center=False)
    spectrum -= spectrum[0] * (offset / offset[0])
    mel = melspectrogram(S=np.abs(spectrum) ** 2, sr=rate_hz, n_mels=features.mel_bins)
    specshow(
        power_to_db(mel, ref=np.max, top_db=_DEPTH_DB),
        x_coords=recording.start_s + np.arange(mel.shape[1]) * hop / rate_hz,
        sr=rate_hz,
        hop_length=hop,
        fmax=rate_hz / 2,
        y_axis="mel",
        cmap="magma",
        ax=axes,
    )
    axes.set_title(f"log-mel spectrogram, {features.mel_bins} bands, {_DEPTH_DB:g} dB from dark to light", loc="left")
    axes.set_ylabel("Hz")


def _shown_tokens(heard: _Heard) -> list[int]:
    """Return the tokens that are probable in some frame; characters by their order, pieces by their first peak."""
    if not heard.posteriors:
        return []
    everything = np.concatenate([posteriors for _, posteriors in heard.posteriors])
    shown = [token for token in np.flatnonzero(everything.max(0) > _SHOWN_POSTERIOR).tolist() if token != BLANK]
    if any(len(heard.tokens[token]) > 1 for token in shown):
        shown.sort(key=lambda token: int(np.argmax(everything[:, token] > _SHOWN_POSTERIOR)))
    return shown


def _draw_posteriors(axes: Axes, heard: _Heard, rows: Sequence[int]) -> None:
    """Draw a row for each token, from the top, and the blank's row in pale grey at the bottom."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("posteriors", ["white", BLUE, "#10305f"])
    greys = LinearSegmentedColormap.from_list("blank", ["white", "0.75"])
    axes.patch.set(hatch="///", edgecolor="0.8", linewidth=0)
    half_s = heard.frame_shift_s / 2
    for start_s, posteriors in heard.posteriors:
        left, right = start_s - half_s, start_s + (len(posteriors) - 0.5) * heard.frame_shift_s
        blank = posteriors[:, [BLANK]].T
        axes.imshow(
            blank, greys, vmin=0, vmax=1, extent=(left, right, len(rows) + 1, len(rows)), interpolation="nearest"
        )
        if rows:
            tokens = posteriors[:, list(rows)].T
            axes.imshow(tokens, colours, vmin=0, vmax=1, extent=(left, right, len(rows), 0), interpolation="nearest")
    axes.set(aspect="auto", ylim=(len(rows) + 1, 0))
    texts = [printable(heard.tokens[token]) for token in rows]
    names = ["space" if text == " " else text.replace(" ", "␣") for text in texts]
    axes.set_yticks(np.arange(len(rows) + 1) + 0.5, [*names, "blank"], fontsize=_TOKEN_POINTS, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_title("posteriors from 0 (white) to 1 (dark); hatched where no speech was found", loc="left")


@dataclass(frozen=True)
class _WordLabels:
    """How words are written below their times so that they do not overlap.

    Attributes:
        upright: whether they are turned by 90°, for lack of room.
        middles_s: where each is written.
        height_in: of the axes, in inches.
    """

    upright: bool
    middles_s: tuple[float, ...]
    height_in: float

    @classmethod
    def fitting(cls, words: Sequence[Word], recording: _Recording, inches_per_s: float) -> _WordLabels:
        """Lay the words of a recording out where a second is `inches_per_s` wide."""
        middles_s = np.array([(word.start_s + word.end_s) / 2 for word in words])
        widths_s = np.array([_written_in(word.text) for word in words]) / inches_per_s
        if np.all(np.diff(middles_s) >= (widths_s[:-1] + widths_s[1:]) / 2):
            return cls(False, tuple(middles_s.tolist()), 0.5)
        gap_s = _WORD_IN / inches_per_s
        places = gap_s * (np.arange(len(words)) + 0.5)
        spread_s = np.maximum(_apart(middles_s, gap_s), recording.start_s + places)
        spread_s = np.minimum(spread_s, recording.end_s - places[::-1])
        return cls(True, tuple(spread_s.tolist()), 0.25 + float(widths_s.max()) * inches_per_s)


def _written_in(text: str) -> float:
    """Return how many inches wide a word is when written, with room around it."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), printable(text), size=_WORD_POINTS, usetex=False).get_extents().width) / 72 + 0.1


def _apart(middles: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Return the positions nearest to rising ones, in least squares, whose distances are at least `gap`.

    Source: Ayer et al. 1955 (pool adjacent violators), applied to the positions less their least distances.
    """
    pools: list[tuple[float, int]] = []  # mean and number
    for index, middle in enumerate(middles.tolist()):
        mean, count = middle - index * gap, 1
        while pools and pools[-1][0] > mean:
            before, more = pools.pop()
            mean, count = (before * more + mean * count) / (more + count), more + count
        pools.append((mean, count))
    means = np.array([mean for mean, count in pools for _ in range(count)])
    spread: NDArray[np.float64] = means + gap * np.arange(len(middles))
    return spread


def _draw_words(axes: Axes, words: Sequence[Word], labels: _WordLabels) -> None:
    """Draw a bar from start to end of each word, and below it the word."""
    bar_top, bar_bottom, text_top = 1.0, 1 - 0.12 / labels.height_in, 1 - 0.25 / labels.height_in
    for word, middle_s in zip(words, labels.middles_s, strict=True):
        width_s = word.end_s - word.start_s
        axes.broken_barh([(word.start_s, width_s)], (bar_bottom, bar_top - bar_bottom), color=BLUE, edgecolor="white")
        axes.plot([(word.start_s + word.end_s) / 2, middle_s], [bar_bottom, text_top], color="0.5", linewidth=0.5)
        axes.text(
            middle_s,
            text_top,
            printable(word.text),
            rotation=90 if labels.upright else 0,
            ha="center",
            va="top",
            fontsize=_WORD_POINTS,
            parse_math=False,
        )
    if not words:
        axes.text(0.5, 0.5, "no words recognised", ha="center", va="center", transform=axes.transAxes)
    axes.set(ylim=(0, 1), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_title("words", loc="left")
