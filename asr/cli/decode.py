"""`asr decode`: a manifest → a decode folder. `asr score`: its error rates. `asr adapt`: a model fits a speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator, DecodeSet, Grammar, Hotword, Method, Speaker
from asr.reading import counted

LISTED = 10  # ids, rules and groups that the terminal shows; the files have all


def decode(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL", help="A model folder, or several that work as one."),
    ],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, e.g. data/an4/test.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The decode folder to write, e.g. exp/an4/decode_test.")],
    method: Method = None,
    hotword: Hotword = None,
    grammar: Grammar = None,
    overrides: DecodeSet = None,
    speaker: Speaker = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Recognise the utterances of a manifest.

    asr score then counts the errors.

    Of several models each searches by itself. Their n-best lists are joined, and the text with the fewest expected word
    errors is taken.

    --set lm=words searches with a word n-gram, whose words are the lexicon. --set rescore_weight=0.3 lets a recurrent
    language model rank the hypotheses. asr lm writes both models into the model folder.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.cli.options import decode_settings, hotword_bonuses

    report = asr.decode(
        models,
        manifest,
        out,
        method=method,
        hotwords=hotword_bonuses(hotword),
        grammar=grammar,
        decode=decode_settings(overrides),
        speaker=speaker,
        accelerator=accelerator,
        progress=progress,
    )
    console.print(
        f"{out}: {counted(report.utterances, 'utterance')}, {report.audio_s / 60:.1f} min of audio, "
        f"{report.method} search, {report.seconds:.1f} s, RTF {report.rtf:.4f}"
    )


def score(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|REF", help="A decode folder, as asr decode writes it, or a file of references."),
    ],
    hypothesis: Annotated[
        Path | None, typer.Argument(metavar="HYP", help="With REF: the file of recognised texts.", show_default=False)
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="Also count the errors by speaker, length, or a field of the manifest; may be repeated.",
        ),
    ] = None,
    equivalences: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Spellings that count as the same: lines such as 'okay => ok', or NIST's .glm."
        ),
    ] = None,
    audio: Annotated[
        bool,
        typer.Option("--audio/--no-audio", help="Put the audio into the page: some 180 kB a minute, at most 10 MB."),
    ] = True,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", help="With REF and HYP: capital and small letters count as the same.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With REF and HYP: a folder to write the reports into."),
    ] = None,
) -> None:
    """Count errors, of a decode folder or of two files: WER and CER.

    Both have 95 % intervals. wer.txt lists each utterance's errors. report.html plays and shows them, and says where
    they are: by speaker, by length, by any field of the manifest. If the decode folder is in a model folder, the rates
    also go into the model card there.

    Files are trn, stm, ctm, Kaldi's text or jsonl. An utterance without a hypothesis counts as deleted and is named.

    asr compare says whether two systems differ.
    """
    import asr
    from asr.bundle.files import SCORES_PAGE, SCORES_TEXT
    from asr.cli.console import out as console
    from asr.errors import ConfigError
    from asr.files import printable
    from asr.reporting.report import render_details, summary

    if hypothesis is None:
        if folder.is_file():
            raise ConfigError(f"{folder}: a file, so the recognised texts are needed too: asr score {folder} HYP")
        if out is not None or ignore_case:
            option = "--ignore-case" if out is None else "--out"
            raise ConfigError(f"{option} is for REF and HYP: a decode folder gets its reports, and has one case")
        scored = asr.score(folder, by=by or (), equivalences=equivalences, audio=audio)
        title = printable(folder if scored.folder is None else scored.folder)
    else:
        scored = asr.score_files(
            folder, hypothesis, out=out, by=by or (), equivalences=equivalences, ignore_case=ignore_case
        )
        title = printable(f"{hypothesis} against {folder}")
    console.print("\n\n".join([f"{title}\n{summary(scored.figures)}", *render_details(scored.figures, LISTED)]))
    if scored.folder is not None:
        console.print(f"\ndetails   {printable(scored.folder)}: {SCORES_TEXT}, {SCORES_PAGE}")


def adapt(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A manifest with his utterances, or an audio file or folder, all of it his."
        ),
    ],
    speaker: Annotated[str, typer.Option(metavar="NAME", help="The speaker's name, as --speaker will choose him.")],
    transcripts: Annotated[
        bool,
        typer.Option(
            "--transcripts/--no-transcripts",
            help="Take the transcripts of the manifest, or what the model itself recognises, as for audio.",
        ),
    ] = True,
    accelerator: Accelerator = "auto",
) -> None:
    """Fit a model to a speaker from minutes of his speech.

    A scale for each unit of the recurrent layers and the norms are fitted; all other weights stay. The result is kept
    only if it gains on utterances that it was not fitted to. It is a file of some ten kilobytes in the model folder.
    asr transcribe and asr decode take it with --speaker NAME, and nothing else changes.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.files import printable

    report = asr.adapt(model, data, speaker, transcripts=transcripts, accelerator=accelerator, progress=progress)
    console.print(
        f"{printable(speaker)}: {report.utterances} utterances, {report.audio_s / 60:.1f} min, "
        f"{report.transcribed} with transcripts"
    )
    before, after = report.loss
    console.print(f"held out    loss {before:.3f} → {after:.3f} nats a token after {report.steps} steps")
    if report.reference_length:
        console.print(f"            errors {report.errors[0]} → {report.errors[1]} of {report.reference_length}")
    if not report.steps:
        console.print("no gain     the model stays as it is for this speaker")
    if report.path is not None:
        console.print(f"written to  {printable(report.path)}, {report.path.stat().st_size / 1000:.0f} kB")
