"""The figures of NIST's sclite and sc_stats, which are independent of this package, for the same texts."""

from __future__ import annotations

import random
import re
from pathlib import Path

import jiwer
import pytest
from sclite import corrupted, rows_of_raw_summary, sctk

from asr.scoring.alignment import aligned_pairs
from asr.scoring.error_counts import ErrorCounts, align_words
from asr.scoring.groups import by_field
from asr.scoring.matched_pairs import MatchedPairs, error_segments
from asr.scoring.score import compare_scores, score_texts, write_trn

WORDS = [f"w{number}" for number in range(30)]


def random_texts(rng: random.Random, number: int, rate: float, words: list[str] = WORDS, speakers: int = 20):
    references = [[rng.choice(words) for _ in range(rng.randint(1, 20))] for _ in range(number)]
    names = [f"s{place % speakers}-{place}" for place in range(number)]
    hypotheses = [corrupted(rng, reference, rate, words) for reference in references]
    return dict(zip(names, references, strict=True)), dict(zip(names, hypotheses, strict=True))


def joined(texts: dict[str, list[str]]) -> dict[str, str]:
    return {name: " ".join(words) for name, words in texts.items()}


def sclite_paths(folder: Path, references: dict[str, str], hypotheses: dict[str, str], title: str = "h") -> Path:
    """Run sclite; return its alignments in SGML."""
    write_trn(references, folder / "r.trn")
    write_trn(hypotheses, folder / f"{title}.trn")
    options = ("-s", "-i", "spu_id", "-o", "sgml", "rsum", "-n", title)
    sctk(folder, "sclite", *options, "-r", "r.trn", "trn", "-h", f"{title}.trn", "trn", title)
    return folder / f"{title}.sgml"


def pairs_of_sclite(path: Path) -> dict[str, list[tuple[str | None, str | None]]]:
    found = {}
    for name, line in re.findall(r'<PATH id="\(([^)]*)\)"[^>]*>\n(.*?)\n?</PATH>', path.read_text(), re.DOTALL):
        words = [re.fullmatch(r'[CSDI],(?:"(.*?)")?,(?:"(.*?)")?', word) for word in line.split(":") if word]
        found[name] = [(word[1], word[2]) for word in words if word]
    return found


def counts_of(pairs) -> ErrorCounts:
    substitutions = sum(None not in pair and pair[0] != pair[1] for pair in pairs)
    deletions, insertions = sum(pair[1] is None for pair in pairs), sum(pair[0] is None for pair in pairs)
    return ErrorCounts(substitutions, deletions, insertions, sum(pair[0] is not None for pair in pairs))


@pytest.mark.parametrize("vocabulary", [4, 30])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_words_are_paired_as_by_sclite_in_a_thousand_random_texts(tmp_path, rate, vocabulary):
    references, hypotheses = random_texts(random.Random(1), 1000, rate, WORDS[:vocabulary])
    expected = pairs_of_sclite(sclite_paths(tmp_path, joined(references), joined(hypotheses)))
    assert {name: aligned_pairs(references[name], hypotheses[name]) for name in references} == expected


def test_where_most_is_wrong_errors_are_the_fewest_and_otherwise_sclites(tmp_path):
    references, hypotheses = random_texts(random.Random(2), 1000, 1.0)
    more = 0
    for name, pairs in pairs_of_sclite(sclite_paths(tmp_path, joined(references), joined(hypotheses))).items():
        counts, of_sclite = counts_of(aligned_pairs(references[name], hypotheses[name])), counts_of(pairs)
        fewest = jiwer.process_words(" ".join(references[name]), " ".join(hypotheses[name]))
        assert counts.errors == fewest.substitutions + fewest.deletions + fewest.insertions
        assert counts == of_sclite or counts.errors < of_sclite.errors
        more += counts.errors < of_sclite.errors
    assert more == 17  # of 1,000; sclite's weights of 4 : 3 : 3 take one error more for another word right


def test_totals_and_figures_by_speaker_are_sclites(tmp_path):
    texts = random_texts(random.Random(3), 1000, 0.2)
    references, hypotheses = map(joined, texts)
    sclite_paths(tmp_path, references, hypotheses)
    score = score_texts(references, hypotheses, {name: name.split("-")[0] for name in references})
    expected = rows_of_raw_summary(tmp_path / "h.raw")
    assert (len(references), score.word_total) == expected.pop("Sum")
    assert by_field(score, {})["speaker"] == {name: counts for name, (_, counts) in expected.items()}


def compare_by_both(folder: Path, references: dict[str, str], systems: dict[str, dict[str, str]]) -> list[bool]:
    """Hold that both programs find the same of each pair of systems; return whether they differ."""
    paths = [sclite_paths(folder, references, hypotheses, title) for title, hypotheses in systems.items()]
    alignments = "".join(path.read_text() for path in paths)
    report = sctk(folder, "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-", given=alignments)
    scores = {title: score_texts(references, hypotheses) for title, hypotheses in systems.items()}
    verdicts = []
    for first, second, segments, mean, z, differ in re.findall(
        r"systems: (\S+) (\S+)\) \(# segs: (\d+)\).*mean: (\S+)\).*Z Stat: (\S+)\) \(Stat Diff: (\w+)", report
    ):
        found = compare_scores(scores[first], scores[second]).matched_pairs
        assert found is not None
        assert found.segments == int(segments)
        assert (-found.mean, -found.z) == pytest.approx((float(mean), float(z)), abs=0.0006)  # it prints three digits
        verdicts.append(found.p_value < 0.05)
        assert verdicts[-1] == (differ == "Yes")
    assert len(verdicts) == len(systems) * (len(systems) - 1) // 2
    return verdicts


def test_the_matched_pairs_test_is_that_of_sc_stats_in_all_pairs_of_21_random_systems(tmp_path):
    rng = random.Random(4)
    references, common = random_texts(rng, 60, 0.2)
    systems = {}
    for number in range(21):
        rate = rng.uniform(0.05, 0.3)
        systems[f"system{number}"] = {  # systems make many errors in common
            name: common[name] if rng.random() < 0.4 else corrupted(rng, words, rate, WORDS)
            for name, words in references.items()
        }
    verdicts = compare_by_both(tmp_path, joined(references), {name: joined(texts) for name, texts in systems.items()})
    assert 50 < sum(verdicts) < 160


@pytest.mark.parametrize(
    ("of_a", "of_b", "segments"),
    [
        ("a b c d e f", "a b c d e f", []),
        ("x b c d e y", "a b c d e f", [(1, 0), (1, 0)]),
        ("x b c y e f", "a b c d e f", [(1, 0), (1, 0)]),
        ("x b y d e f", "a b c d e f", [(2, 0)]),  # one right word does not divide
        ("x b c d e f", "a b i c d e f", [(1, 1)]),  # nor do two with an insertion between them
        ("x b c d e f", "a b c i d e f", [(1, 0), (0, 1)]),
        ("a b c d e f i", "i a b c d e f", [(0, 1), (1, 0)]),
        ("", "a b c d e f", [(6, 0)]),
    ],
)
def test_segments_are_as_worked_by_hand(of_a, of_b, segments):
    reference = "a b c d e f"
    assert list(error_segments(align_words(reference, of_a), align_words(reference, of_b))) == segments


def test_equal_systems_and_equal_differences_have_the_statistic_nought_as_in_sc_stats(tmp_path):
    references = {"s-1": "a b c", "s-2": "d e f"}
    worse = {"s-1": "a b", "s-2": "d e"}
    assert compare_by_both(tmp_path, references, {"worse": worse, "right": references}) == [False]
    found = compare_scores(score_texts(references, references), score_texts(references, references)).matched_pairs
    assert found == MatchedPairs(0, 0.0, 0.0, 1.0)
