"""`asr lm`: text → language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Estimate language models from text.", no_args_is_help=True)

_WORD_ORDER = 3


@app.command("ngram")
def ngram(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC", help="Text, one sentence a line, or manifests (.jsonl.gz); .gz is read too."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Count this model's tokens, for its beam search; else words."),
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(help=f"Longest n-gram. Default: the model's decode.lm_order, or {_WORD_ORDER}."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The ARPA file to write, .gz or not. Default: the model's own.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text or manifest whose perplexity to print.")
    ] = None,
) -> None:
    """Estimate a Kneser-Ney n-gram and write it as an ARPA file.

    The smoothing is interpolated modified Kneser-Ney.

    With --model, texts are normalised as the model's transcripts were, and its beam search uses the result.
    """
    from asr.cli.console import out as console
    from asr.lm.arpa import write_arpa
    from asr.lm.kneser_ney import kneser_ney
    from asr.lm.texts import read_texts
    from asr.lm.token_ngram import token_ngram, token_sentences

    texts = [text for source in sources for text in read_texts(source)]
    test_texts = [] if test is None else read_texts(test)
    if model is None:
        if out is None:
            raise typer.BadParameter("needed without --model", param_hint="--out")
        unit, path = "words", out
        lm = kneser_ney([text.split() for text in texts], _WORD_ORDER if order is None else order)
        test_sentences = [text.split() for text in test_texts]
    else:
        from asr.config import load_config
        from asr.data.text import normalise
        from asr.data.tokens import TokenTable
        from asr.model.bundle import CONFIG, LANGUAGE_MODEL, TOKENS

        config, tokens = load_config(model / CONFIG), TokenTable.load(model / TOKENS)
        texts, test_texts = ([normalise(text, config.text) for text in part] for part in (texts, test_texts))
        unit, path = "tokens", model / LANGUAGE_MODEL if out is None else out
        lm = token_ngram(texts, tokens, config.decode.lm_order if order is None else order)
        test_sentences = token_sentences(test_texts, tokens)
    write_arpa(lm, path)

    for length, ngrams in enumerate(lm.ngrams, start=1):
        console.print(f"{length}-grams  {len(ngrams)}")
    console.print(f"written  {path}")
    if test is not None:
        found = lm.perplexity(test_sentences)
        console.print(f"{test}: perplexity {found.perplexity:.2f} on {found.units} {unit}, {found.oovs} OOV")
