"""Train, run and trust your own speech recogniser.

    import asr

    recognizer = asr.load("exp/mine")
    transcript = recognizer.transcribe("call.wav")
    print(transcript.text)

The names below are the public API. They are imported on first use: `import asr` alone loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.audio.microphone import microphone
    from asr.bulk.features import FeaturesReport, compute_features
    from asr.bulk.run import TranscribeReport, transcribe_files
    from asr.config import Config
    from asr.corpus.check import DataReport
    from asr.corpus.findings import Finding
    from asr.corpus.pack import PackReport, pack
    from asr.corpus.splits import SplitRule
    from asr.decoding.streaming import Listening, Partial
    from asr.errors import (
        AsrError,
        AudioError,
        AudioWarning,
        ConfigError,
        DependencyError,
        DeviceError,
        DownloadError,
        FontWarning,
        GrammarWarning,
        LanguageModelError,
        ManifestError,
        ModelError,
        ModelWarning,
        RecipeError,
        ScoringError,
        ShapeError,
        StageError,
        TokenError,
        TrainingError,
        UnknownFormatError,
        UtteranceAudioError,
    )
    from asr.exporting.export import ExportReport, export
    from asr.importing.elan import import_elan
    from asr.importing.folder import import_folder
    from asr.importing.json_lines import import_jsonl
    from asr.importing.kaldi import import_kaldi
    from asr.importing.labelstudio import import_labelstudio
    from asr.importing.lhotse import import_lhotse
    from asr.importing.librispeech import import_librispeech
    from asr.importing.ljspeech import import_ljspeech
    from asr.importing.parquet import import_parquet
    from asr.importing.stm import import_stm
    from asr.importing.subtitles import import_subtitles
    from asr.importing.table import Columns, import_csv
    from asr.importing.textgrid import import_textgrid
    from asr.importing.utterances import ImportReport
    from asr.inference.adapt import AdaptReport, adapt
    from asr.inference.check_corpus import check
    from asr.inference.decode_corpus import DecodeReport, decode
    from asr.inference.plot import PlotReport, plot
    from asr.inference.recognizer import Recognizer, load
    from asr.inference.text_alignment import AlignedText, AlignedWord, align_manifest
    from asr.labelling.choose import ChooseReport, ChosenRecording, choose
    from asr.labelling.label import LabelReport, label
    from asr.lm.estimate import NgramReport, estimate_ngram
    from asr.lm.grammar import Grammar, load_grammar
    from asr.preparing.new_recipe import InitReport, init
    from asr.preparing.recipes import PrepareReport, prepare
    from asr.reporting.compare import compare
    from asr.reporting.comparison import (
        AlignedColumn,
        ComparedPair,
        ComparedUtterance,
        Comparison,
        SettingDifference,
    )
    from asr.reporting.report import ScoreReport, score
    from asr.reporting.score_files import score_files
    from asr.reporting.systems import ComparedSystem
    from asr.reviewing.review import AppliedReview, ReviewReport, apply_review, review
    from asr.scoring.intervals import PairedComparison
    from asr.search_config import DecodeSettings, RnnLmSettings
    from asr.segmenting.segment import SegmentReport, SkippedStretch, segment
    from asr.serving.serve import serve
    from asr.serving.upload import ServeLimits
    from asr.settings_file import load_config
    from asr.sharing.pack import PackedModel, pack_model
    from asr.sharing.push_pull import PullReport, PushReport, pull, push
    from asr.sharing.shipped import SampleRecording, sample_recording
    from asr.stages import RecipeRun, run_recipe
    from asr.training.diagnostics import Diagnosis, diagnose
    from asr.training.distill import distill
    from asr.training.lm_trainer import train_rnn_lm
    from asr.training.loop import TrainingResult
    from asr.training.pretrain import pretrain
    from asr.training.trainer import train
    from asr.transcript.transcript import Alternative, Transcript
    from asr.transcript.words import Word
    from asr.tuning.rejection import RejectionReport, tune_rejection
    from asr.tuning.search import search
    from asr.tuning.search_report import SearchReport
    from asr.tuning.tune import TuneReport, tune

__version__ = "0.1.0"

__all__ = [
    "AdaptReport",
    "AlignedColumn",
    "AlignedText",
    "AlignedWord",
    "Alternative",
    "AppliedReview",
    "AsrError",
    "AudioError",
    "AudioWarning",
    "ChooseReport",
    "ChosenRecording",
    "Columns",
    "ComparedPair",
    "ComparedSystem",
    "ComparedUtterance",
    "Comparison",
    "Config",
    "ConfigError",
    "DataReport",
    "DecodeReport",
    "DecodeSettings",
    "DependencyError",
    "DeviceError",
    "Diagnosis",
    "DownloadError",
    "ExportReport",
    "FeaturesReport",
    "Finding",
    "FontWarning",
    "Grammar",
    "GrammarWarning",
    "ImportReport",
    "InitReport",
    "LabelReport",
    "LanguageModelError",
    "Listening",
    "ManifestError",
    "ModelError",
    "ModelWarning",
    "NgramReport",
    "PackReport",
    "PackedModel",
    "PairedComparison",
    "Partial",
    "PlotReport",
    "PrepareReport",
    "PullReport",
    "PushReport",
    "RecipeError",
    "RecipeRun",
    "Recognizer",
    "RejectionReport",
    "ReviewReport",
    "RnnLmSettings",
    "SampleRecording",
    "ScoreReport",
    "ScoringError",
    "SearchReport",
    "SegmentReport",
    "ServeLimits",
    "SettingDifference",
    "ShapeError",
    "SkippedStretch",
    "SplitRule",
    "StageError",
    "TokenError",
    "TrainingError",
    "TrainingResult",
    "TranscribeReport",
    "Transcript",
    "TuneReport",
    "UnknownFormatError",
    "UtteranceAudioError",
    "Word",
    "__version__",
    "adapt",
    "align_manifest",
    "apply_review",
    "check",
    "choose",
    "compare",
    "compute_features",
    "decode",
    "diagnose",
    "distill",
    "estimate_ngram",
    "export",
    "import_csv",
    "import_elan",
    "import_folder",
    "import_jsonl",
    "import_kaldi",
    "import_labelstudio",
    "import_lhotse",
    "import_librispeech",
    "import_ljspeech",
    "import_parquet",
    "import_stm",
    "import_subtitles",
    "import_textgrid",
    "init",
    "label",
    "load",
    "load_config",
    "load_grammar",
    "microphone",
    "pack",
    "pack_model",
    "plot",
    "prepare",
    "pretrain",
    "pull",
    "push",
    "review",
    "run_recipe",
    "sample_recording",
    "score",
    "score_files",
    "search",
    "segment",
    "serve",
    "train",
    "train_rnn_lm",
    "transcribe_files",
    "tune",
    "tune_rejection",
]

_HOMES = {
    "asr.audio.microphone": ("microphone",),
    "asr.bulk.features": ("FeaturesReport", "compute_features"),
    "asr.inference.adapt": ("AdaptReport", "adapt"),
    "asr.bulk.run": ("TranscribeReport", "transcribe_files"),
    "asr.config": ("Config",),
    "asr.search_config": ("DecodeSettings", "RnnLmSettings"),
    "asr.corpus.check": ("DataReport",),
    "asr.corpus.findings": ("Finding",),
    "asr.importing.elan": ("import_elan",),
    "asr.importing.folder": ("import_folder",),
    "asr.importing.librispeech": ("import_librispeech",),
    "asr.importing.ljspeech": ("import_ljspeech",),
    "asr.importing.stm": ("import_stm",),
    "asr.importing.json_lines": ("import_jsonl",),
    "asr.importing.kaldi": ("import_kaldi",),
    "asr.importing.labelstudio": ("import_labelstudio",),
    "asr.importing.lhotse": ("import_lhotse",),
    "asr.importing.parquet": ("import_parquet",),
    "asr.importing.subtitles": ("import_subtitles",),
    "asr.importing.table": ("Columns", "import_csv"),
    "asr.importing.textgrid": ("import_textgrid",),
    "asr.importing.utterances": ("ImportReport",),
    "asr.preparing.new_recipe": ("InitReport", "init"),
    "asr.corpus.pack": ("PackReport", "pack"),
    "asr.preparing.recipes": ("PrepareReport", "prepare"),
    "asr.corpus.splits": ("SplitRule",),
    "asr.errors": (
        "AsrError",
        "AudioError",
        "AudioWarning",
        "ConfigError",
        "DependencyError",
        "DeviceError",
        "DownloadError",
        "FontWarning",
        "GrammarWarning",
        "LanguageModelError",
        "ManifestError",
        "ModelError",
        "ModelWarning",
        "RecipeError",
        "ScoringError",
        "ShapeError",
        "StageError",
        "TokenError",
        "TrainingError",
        "UnknownFormatError",
        "UtteranceAudioError",
    ),
    "asr.exporting.export": ("ExportReport", "export"),
    "asr.inference.check_corpus": ("check",),
    "asr.inference.decode_corpus": ("DecodeReport", "decode"),
    "asr.inference.plot": ("PlotReport", "plot"),
    "asr.inference.recognizer": ("Recognizer", "load"),
    "asr.decoding.streaming": ("Listening", "Partial"),
    "asr.inference.text_alignment": ("AlignedText", "AlignedWord", "align_manifest"),
    "asr.labelling.choose": ("ChooseReport", "ChosenRecording", "choose"),
    "asr.labelling.label": ("LabelReport", "label"),
    "asr.lm.estimate": ("NgramReport", "estimate_ngram"),
    "asr.lm.grammar": ("Grammar", "load_grammar"),
    "asr.reporting.compare": ("compare",),
    "asr.reporting.comparison": (
        "AlignedColumn",
        "ComparedPair",
        "ComparedUtterance",
        "Comparison",
        "SettingDifference",
    ),
    "asr.reporting.report": ("ScoreReport", "score"),
    "asr.reporting.score_files": ("score_files",),
    "asr.reporting.systems": ("ComparedSystem",),
    "asr.reviewing.review": ("AppliedReview", "ReviewReport", "apply_review", "review"),
    "asr.scoring.intervals": ("PairedComparison",),
    "asr.segmenting.segment": ("SegmentReport", "SkippedStretch", "segment"),
    "asr.serving.serve": ("serve",),
    "asr.serving.upload": ("ServeLimits",),
    "asr.settings_file": ("load_config",),
    "asr.sharing.pack": ("PackedModel", "pack_model"),
    "asr.sharing.push_pull": ("PullReport", "PushReport", "pull", "push"),
    "asr.sharing.shipped": ("SampleRecording", "sample_recording"),
    "asr.stages": ("RecipeRun", "run_recipe"),
    "asr.training.diagnostics": ("Diagnosis", "diagnose"),
    "asr.training.distill": ("distill",),
    "asr.training.lm_trainer": ("train_rnn_lm",),
    "asr.training.loop": ("TrainingResult",),
    "asr.training.pretrain": ("pretrain",),
    "asr.training.trainer": ("train",),
    "asr.transcript.transcript": ("Alternative", "Transcript"),
    "asr.transcript.words": ("Word",),
    "asr.tuning.rejection": ("RejectionReport", "tune_rejection"),
    "asr.tuning.search": ("search",),
    "asr.tuning.search_report": ("SearchReport",),
    "asr.tuning.tune": ("TuneReport", "tune"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        from asr.machine import set_library_defaults

        set_library_defaults()  # torch is loaded now, if it is not yet
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'asr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
