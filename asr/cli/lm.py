"""`asr lm`: text → language models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.config import Config, TextSettings
    from asr.text.tokens import TokenTable

app = typer.Typer(help="Estimate language models from text.", no_args_is_help=True)

_WORD_ORDER = 3
_SHOWN = 8  # words, of a long list

Sources = Annotated[
    list[Path],
    typer.Argument(metavar="SRC", help="Text, one sentence a line, or manifests (.jsonl.gz); .gz is read too."),
]


@app.command("ngram")
def ngram(
    sources: Sources,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Count this model's tokens, for its beam search; else words."),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With --model: words, which are its lexicon then, instead of tokens.")
    ] = False,
    order: Annotated[
        int | None,
        typer.Option(help=f"Longest n-gram. Default: of words {_WORD_ORDER}, of tokens the model's decode.lm_order."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE", help="The N most frequent words, or those listed in FILE; others count as <unk>."
        ),
    ] = None,
    prune: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help="Leave out n-grams that occur so often or less: 0,0,1 means trigrams and longer ones seen once.",
        ),
    ] = "0",
    out: Annotated[
        Path | None, typer.Option(help="The ARPA file to write, .gz or not. Default: the model's own.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text or manifest whose perplexity to print.")
    ] = None,
) -> None:
    """Estimate a Kneser-Ney n-gram and write it as an ARPA file.

    The smoothing is interpolated modified Kneser-Ney. The text is streamed: ten million words fit a small machine.

    With --model, texts are normalised as the model's transcripts were, and the result is written into its folder: that
    of tokens is what its beam search uses, that of words (--words) what it uses with the setting lm=words. Weights are
    then chosen by `asr tune`.
    """
    from asr.cli.console import out as console
    from asr.lm.arpa import write_arpa
    from asr.lm.estimate import token_ngram
    from asr.lm.kneser_ney import kneser_ney
    from asr.lm.texts import read_texts, stream_texts, token_sentences

    counts = _counts(prune)
    texts: Iterable[str] = (text for source in sources for text in stream_texts(source))
    test_texts = [] if test is None else read_texts(test)
    tokens = None
    if model is not None:
        from asr.bundle.files import LANGUAGE_MODEL, WORD_LANGUAGE_MODEL

        config, tokens = _model(model)
        texts, test_texts = _normalised(texts, config.text), list(_normalised(test_texts, config.text))
        path = out or model / (WORD_LANGUAGE_MODEL if words else LANGUAGE_MODEL)
    elif out is not None:
        path = out
    else:
        raise typer.BadParameter("needed without --model", param_hint="--out")
    if tokens is None or words:
        unit, test_sentences = "words", [text.split() for text in test_texts]
        known = None if vocabulary is None else _vocabulary(vocabulary, config.text if tokens else None)
        lm = kneser_ney((text.split() for text in texts), _WORD_ORDER if order is None else order, known, counts)
    else:
        if vocabulary is not None:
            raise typer.BadParameter("of a model's tokens is given; --words counts words", param_hint="--vocabulary")
        order = config.decode.lm_order if order is None else order
        with _LeftOut() as left_out:
            unit, test_sentences = "tokens", token_sentences(test_texts, tokens, left_out)
            lm = token_ngram(texts, tokens, order, counts, left_out)
    write_arpa(lm, path)

    for length, ngrams in enumerate(lm.ngrams, start=1):
        console.print(f"{length}-grams  {len(ngrams)}")
    console.print(f"written  {path}")
    if tokens is not None and words:
        from asr.decoding.word_scorer import NOT_WORDS
        from asr.text.tokens import spellable

        lexicon = [unit for (unit,) in lm.ngrams[0] if unit not in NOT_WORDS]
        lost = sorted(set(lexicon) - set(spellable(lexicon, tokens)))
        shown = f" ({', '.join(lost[:_SHOWN])}{' …' if len(lost) > _SHOWN else ''})" if lost else ""
        console.print(f"lexicon  {len(lexicon) - len(lost)} words; {len(lost)} not in the model's characters{shown}")
    if test is not None:
        found = lm.perplexity(test_sentences)
        console.print(f"{test}: perplexity {found.perplexity:.2f} on {found.units} {unit}, {found.oovs} OOV")


@app.command("rnn")
def rnn(
    sources: Sources,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Predict this model's tokens, for its beam search; else words.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With --model: words instead of tokens, to rescore with only.")
    ] = False,
    dev: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text or manifest by which the best epoch is chosen. Default: every 20th sentence."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write. Default: rnnlm in the model's own.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. hidden_size=256 or epochs=5; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
) -> None:
    """Train a recurrent language model; the best by dev perplexity is kept.

    With --model, texts are normalised as the model's transcripts were, and the result is written into its folder. Its
    decoder asks it if rnn_weight (within the search) or rescore_weight (over the n-best) is above 0: --set of
    `asr decode`, or the folder's decoder.yaml. Without --model, words are taken as they stand.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and leaves with status 75: --resume continues the run.
    """
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.cli.train import STOPPED
    from asr.lm.rnnlm import LmUnits
    from asr.lm.texts import encoded, read_texts
    from asr.settings_file import parse_rnnlm_settings
    from asr.training.lm_trainer import train_lm
    from asr.training.reports import LmEpoch, LmStart, LmStep

    settings = parse_rnnlm_settings(overrides or [])
    texts = [text for source in sources for text in read_texts(source)]
    if dev is not None:
        dev_texts = read_texts(dev)
    else:
        dev_texts, texts = texts[19::20] or texts, [text for n, text in enumerate(texts) if n % 20 != 19]
    tokens = None
    if model is not None:
        from asr.bundle.files import RNN_LM_FOLDER

        config, tokens = _model(model)
        texts, dev_texts = (list(_normalised(part, config.text)) for part in (texts, dev_texts))
        folder = out or model / RNN_LM_FOLDER
    elif out is not None:
        folder = out
    else:
        raise typer.BadParameter("needed without --model", param_hint="--out")
    if tokens is None or words:
        units = LmUnits.of_words(texts, settings.min_count)
        train, dev_sentences = ([units.encode_words(text) for text in part] for part in (texts, dev_texts))
    else:
        units = LmUnits.of_tokens(tokens)
        with _LeftOut() as left_out:
            train, dev_sentences = (list(encoded(part, tokens, left_out)) for part in (texts, dev_texts))

    reports = train_lm(settings, units, train, dev_sentences, folder, resume=resume)
    start = next(reports)
    assert isinstance(start, LmStart)
    console.print(f"network   {settings.network}, {start.parameter_count:,} parameters, on {start.device}")
    console.print(
        f"data      {start.sentences} sentences, {start.units} units, {start.unit_count} different {units.kind}"
    )
    if start.damaged_checkpoint:
        console.print(f"damaged   {start.damaged_checkpoint}; the checkpoint before it is used")
    if start.resumed_at_step:
        console.print(f"resumed   after step {start.resumed_at_step}")
    with progress("train", total=start.steps - start.resumed_at_step) as advance:
        for report in reports:
            if isinstance(report, LmStep):
                advance(1)
                if report.skipped:
                    console.print(f"skipped   step {report.step}: loss {report.loss}")
            elif isinstance(report, LmEpoch):
                found = report.dev
                console.print(
                    f"epoch {report.epoch + 1:3d}/{settings.epochs}   loss {report.loss:6.3f}"
                    f"   dev perplexity {found.perplexity:.2f} on {found.units} {units.kind}, {found.oovs} OOV"
                    f"{' *' if report.best else '  '}   {report.train_s + report.dev_s:5.1f} s"
                )
            elif not isinstance(report, LmStart):
                console.print(f"stopped   by {report.signal} after step {report.step}; --resume continues it")
                raise typer.Exit(STOPPED)
    console.print(f"written   {folder}")


def _counts(prune: str) -> list[int]:
    try:
        return [int(count) for count in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"{prune!r} should be counts, such as 0,0,1", param_hint="--prune") from None


def _vocabulary(given: str, settings: TextSettings | None) -> int | list[str]:
    """Return how many words there are, or the words of a file, normalised if settings are given, and `<unk>`."""
    from asr.lm.ngram import UNKNOWN
    from asr.lm.texts import stream_texts
    from asr.text.normalise import normalise

    if given.isdecimal():
        return int(given)
    lines = (line if settings is None else normalise(line, settings) for line in stream_texts(given))
    return [UNKNOWN, *(word for line in lines for word in line.split())]


def _model(folder: Path) -> tuple[Config, TokenTable]:
    from asr.bundle.files import TOKENS
    from asr.bundle.settings import load_settings
    from asr.text.tokens import load_tokens

    return load_settings(folder), load_tokens(folder / TOKENS)


def _normalised(texts: Iterable[str], settings: TextSettings) -> Iterator[str]:
    """Yield texts as the model's transcripts are written.

    What that empties was never said: as a sentence it would teach that nothing often is.
    """
    from asr.text.normalise import normalise

    return filter(None, (normalise(text, settings) for text in texts))


class _LeftOut:
    """Counts the sentences that a model cannot spell, and says at the end how many and what is wrong with the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Exception | None = None

    def __enter__(self) -> _LeftOut:
        return self

    def __exit__(self, *_: object) -> None:
        from asr.cli.console import out as console

        if self.count:
            sentences = "sentence" if self.count == 1 else "sentences"
            console.print(f"left out {self.count} {sentences}; {self.first}", markup=False)

    def __call__(self, error: Exception) -> None:
        self.count += 1
        self.first = self.first or error
