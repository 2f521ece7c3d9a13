"""Two corpora of synthetic speech that no recipe knows: does `asr init` make recipes that run with nothing edited?

    python benchmarks/init_corpora.py --out init_corpora              # audio, tables, manifests, recipes: minutes
    python benchmarks/init_corpora.py --out init_corpora --run        # then trains and scores both: an hour or more

Both are 25 minutes of commands and numbers, in twelve voices of the quickstart's speech engine. One is Russian, in
Cyrillic with capitals, punctuation and hyphens, at 22,050 Hz. The other is Mandarin, without spaces, at 8,000 Hz. Whole
voices are dev and test. It runs what a user would type: `asr import csv`, `asr init`, `asr run`.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.audio.resample import resample
from asr.preparing.recipes import recipes_folder

VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
RATES_HZ = {"ru": 22050, "cmn": 8000}

_RUSSIAN = {
    "digit": ["ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"],
    "hour": ["час", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять"],
    "minute": ["десять", "пятнадцать", "двадцать", "двадцать пять", "тридцать", "сорок", "сорок пять", "пятьдесят"],
    "switch": ["Включи", "Выключи"],
    "thing": ["свет", "музыку", "радио", "телевизор", "чайник", "отопление", "зелёный свет", "кое-что"],
    "place": ["на кухне", "в спальне", "в ванной", "в гостиной", "в подъезде", "на балконе"],
    "person": ["Анне", "Ивану", "маме", "дедушке", "Юлии", "Фёдору", "Жене", "врачу"],
    "city": ["в Москве", "в Санкт-Петербурге", "в Ростове-на-Дону", "в Хабаровске", "в Уфе"],
    "day": ["сегодня", "завтра", "послезавтра", "в четверг", "в субботу"],
}
_RUSSIAN_SENTENCES = (
    "{switch} {thing} {place}.",
    "{switch} {thing}, пожалуйста.",
    "Набери номер {digit} {digit} {digit} {digit} {digit}.",
    "Позвони {person}, {day}!",
    "Разбуди меня {day}: {hour} и {minute} минут.",
    "Какая погода {day} {city}?",
    "Напомни {person} — {day} {minute} минут.",
)
_MANDARIN = {
    "digit": list("零一二三四五六七八九"),
    "number": ["五", "十", "十五", "二十", "二十五", "三十", "四十", "五十"],
    "hour": ["一点", "两点", "三点", "六点", "七点", "八点半", "九点", "十点半"],
    "switch": ["打开", "关掉"],
    "thing": ["灯", "空调", "电视", "音乐", "收音机", "窗户", "暖气"],
    "place": ["客厅", "厨房", "卧室", "浴室", "书房", "阳台"],
    "person": ["妈妈", "爸爸", "老师", "医生", "小王", "李明"],
    "city": ["北京", "上海", "广州", "成都", "西安"],
    "day": ["今天", "明天", "后天", "星期四", "星期六"],
}
_MANDARIN_SENTENCES = (
    "请{switch}{place}的{thing}。",
    "{switch}{thing}，谢谢！",
    "拨打{digit}{digit}{digit}{digit}{digit}。",
    "{day}给{person}打电话。",
    "{day}早上{hour}叫我起床。",
    "{day}{city}的天气怎么样？",
    "{number}分钟以后提醒{person}。",
)


def draw_sentence(language: str, rng: np.random.Generator) -> str:
    """Return a sentence with its punctuation, in Russian (ru) or Mandarin (cmn)."""
    words, sentences = {"ru": (_RUSSIAN, _RUSSIAN_SENTENCES), "cmn": (_MANDARIN, _MANDARIN_SENTENCES)}[language]
    sentence = str(rng.choice(sentences))
    for kind, choices in words.items():
        while f"{{{kind}}}" in sentence:
            sentence = sentence.replace(f"{{{kind}}}", str(rng.choice(choices)), 1)
    return sentence


def make_corpus(
    language: str, folder: Path, *, minutes: float, variants: Sequence[str] = VARIANTS, seed: int = 0
) -> Path:
    """Write audio and a table `recordings.csv` with path, text and speaker; return the table."""
    sys.path.insert(0, str(recipes_folder() / "quickstart"))
    from quickstart_sound import record
    from quickstart_speech import SpeechEngine

    engine = SpeechEngine(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows, spoken_s = [], 0.0
    while spoken_s < 60 * minutes:
        number = len(rows)
        variant, rng = variants[number % len(variants)], np.random.default_rng((seed, number))
        text = draw_sentence(language, rng)
        speech = engine.speak(
            [text],
            f"{language}+{variant}",
            words_per_minute=int(rng.integers(140, 190)),
            pitch=int(rng.integers(35, 65)),
            pitch_range=50,
        )
        waveform = record(speech.waveform, speech.sample_rate_hz, rng).waveform
        waveform = resample(waveform, speech.sample_rate_hz, RATES_HZ[language])
        path = folder / "audio" / f"{variant}-{number:04d}.wav"
        soundfile.write(path, waveform, RATES_HZ[language])
        rows.append({"path": path.relative_to(folder), "text": text, "speaker": variant})
        spoken_s += len(waveform) / RATES_HZ[language]
    table = folder / "recordings.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "text", "speaker"])
        writer.writeheader()
        writer.writerows(rows)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that gets corpora, conf/, recipes/, data/, exp/"
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="minutes of audio in each corpus")
    parser.add_argument("--language", choices=sorted(RATES_HZ), action="append", help="only this one; repeatable")
    parser.add_argument("--run", action="store_true", help="train and score, too")
    given = parser.parse_args()

    for language in given.language or RATES_HZ:
        table = make_corpus(language, given.out / "corpora" / language, minutes=given.minutes)
        asr: Callable[..., object] = lambda *words: subprocess.run(  # noqa: E731
            [sys.executable, "-m", "asr", *map(str, words)], cwd=given.out, check=True
        )
        asr("import", "csv", table.relative_to(given.out), "--out", f"data/{language}")
        asr("init", language, "--data", f"data/{language}")
        if given.run:
            asr("run", language)


if __name__ == "__main__":
    main()
