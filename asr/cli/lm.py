"""`asr lm`: text → language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.files import printable
from asr.reading import counted

app = typer.Typer(help="Estimate language models from text.", no_args_is_help=True)

_SHOWN = 8  # words of a long list

Sources = Annotated[
    list[Path],
    typer.Argument(metavar="SRC", help="Text with a sentence a line, or manifests (.jsonl.gz); text may be .gz too."),
]


@app.command("ngram")
def ngram(
    sources: Sources,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A model folder: count its tokens, for its beam search; without it, words."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The ARPA file to write, .gz or not. Default: the model's own.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With --model: count words, which become its lexicon, instead of tokens.")
    ] = False,
    order: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Longest n-gram. Default: 3 words, or as many tokens as the model's decode.lm_order."
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(metavar="N|FILE", help="Keep the N most frequent words, or those in FILE; others become <unk>."),
    ] = None,
    prune: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help="Drop n-grams seen at most this often, per order: 0,0,1 drops trigrams and longer ones seen once.",
        ),
    ] = "0",
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text or manifest to print the perplexity of.")
    ] = None,
) -> None:
    """Estimate an n-gram and write it as an ARPA file.

    The smoothing is interpolated modified Kneser-Ney. The text is read as a stream, so ten million words fit a small
    machine.

    An ARPA file in place of texts, FILE.arpa or FILE.arpa.gz, is taken as it is. So a published n-gram becomes the
    model's.

    With --model, texts are normalised as the model's transcripts were, and the n-gram is written into the model folder.
    The beam search uses the n-gram of tokens; with the setting lm=words it uses the n-gram of words (--words). Run
    asr tune afterwards: it chooses the weights.
    """
    import asr
    from asr.cli.console import out as console

    if model is None and out is None:
        raise typer.BadParameter("needed without --model", param_hint="--out")
    if vocabulary is not None and model is not None and not words:
        raise typer.BadParameter("it is for words; a model's tokens are the vocabulary", param_hint="--vocabulary")
    report = asr.estimate_ngram(
        sources,
        out,
        model=model,
        words=words,
        order=order,
        vocabulary=int(vocabulary) if vocabulary and vocabulary.isdecimal() else vocabulary,
        prune=_counts(prune),
        test=test,
    )
    if report.left_out:
        why = printable(report.left_out_reason)
        console.print(f"left out {counted(report.left_out, 'sentence')}; {why}")
    for length, count in enumerate(report.counts, start=1):
        console.print(f"{length}-grams  {count}")
    console.print(f"written  {report.path}")
    if report.lexicon is not None:
        lost = report.not_spelled
        shown = f" ({', '.join(map(printable, lost[:_SHOWN]))}{' …' if len(lost) > _SHOWN else ''})" if lost else ""
        console.print(f"lexicon  {report.lexicon} words; {len(lost)} not in the model's characters{shown}")
    if report.perplexity is not None:
        found = report.perplexity
        console.print(f"{test}: perplexity {found.perplexity:.2f} on {found.units} {report.units}, {found.oovs} OOV")


@app.command("rnn")
def rnn(
    sources: Sources,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A model folder: predict its tokens, for its beam search; without it, words."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write. Default: rnnlm in the model folder.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With --model: predict words instead of tokens; such a model only rescores.")
    ] = False,
    dev: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text or manifest to choose the best epoch on. Default: every 20th sentence."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. hidden_size=256 or epochs=5; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
) -> None:
    """Train a recurrent language model.

    The epoch with the best dev perplexity is kept.

    With --model, texts are normalised as the model's transcripts were, and the result is written into the model folder.
    The beam search uses it if rnn_weight is above 0, and the n-best list is rescored with it if rescore_weight is above
    0; asr tune then chooses these weights. Without --model, words are taken as they are in the text.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends with status 75. --resume then continues the run.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.training_display import LmTrainingDisplay
    from asr.errors import ExitStatus
    from asr.settings_file import parse_rnnlm_settings

    if model is None and out is None:
        raise typer.BadParameter("needed without --model", param_hint="--out")
    settings = parse_rnnlm_settings(overrides or [])
    with LmTrainingDisplay(console) as display:
        result = asr.train_rnn_lm(
            sources,
            out,
            model=model,
            words=words,
            dev=dev,
            settings=settings,
            resume=resume,
            on_report=display.show,
        )
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)
    console.print(f"written   {result.folder}")


def _counts(prune: str) -> list[int]:
    try:
        return [int(count) for count in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"{prune!r} should be counts, such as 0,0,1", param_hint="--prune") from None
