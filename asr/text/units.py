"""A text → its words, also where the script writes no spaces: Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan …

Without a dictionary nobody can tell where a Chinese or Thai word ends. So the text between two spaces is divided into
the smallest parts that a reader can use, here called units:

    Han, hiragana, Yi, Thai, Lao, Khmer, Burmese   a character with its marks        今|天|天|气   กิ|น
    katakana                                       a run                             コーヒー|を
    Tibetan                                        a syllable, with its tsheg        བཀྲ་|ཤིས་
    all other letters, and digits                  a run                             iPhone|を|買|う

Punctuation belongs to the unit before it, an opening bracket to the unit after it. A text of other scripts is divided
at its spaces alone. Units end only at word boundaries of Unicode. Not every boundary is an end, because some signs
cannot begin or end a line: a small kana, or a sign that repeats or lengthens, joins the unit before it. A Thai or Lao
vowel that is written before its consonant joins that one. A consonant written below another joins that one.

The rule needs only the standard library, because an exported model runs with few packages and must find the same words
as the model itself. The tests compare it with the package `regex`, which knows Unicode's boundaries.

Sources: Unicode Standard Annex #29, "Unicode text segmentation" (characters with their marks, word boundaries); Annex
#14, "Unicode line breaking algorithm" (classes ID, CJ and SA are the scripts without spaces; class NS begins no line).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

_TIBETAN = "\u0f00-\u0fff"
_KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_WITHOUT_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    + _TIBETAN
    + "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    + "\u1780-\u17ff"  # Khmer
    + "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    + "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # radicals and signs among Han characters
    + "\u3041-\u309f"  # hiragana
    + _KATAKANA
    + "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    + "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    + "\ua000-\ua48f"  # Yi
    + "\U00016fe0-\U00018dff\U0001aff0-\U0001b2ff"  # Tangut, Khitan, old kana, Nushu
)
_LETTER_WITHOUT_SPACES = re.compile(f"[{_WITHOUT_SPACES}]")
_TIBETAN_LETTER, _KATAKANA_LETTER = re.compile(f"[{_TIBETAN}]"), re.compile(f"[{_KATAKANA}]")

# Written behind its consonant, but of it: Thai and Lao am. Then what begins no line.
_BELONGS_BEFORE = frozenset(
    "\u0e33\u0eb3" + "々〻ゝゞーヽヾ" + "ぁぃぅぇぉっゃゅょゎゕゖ" + "\uff70\uff9e\uff9f" + "\u200c\u200d"
)
_BELONGS_AFTER = frozenset("เแโใไ" + "ເແໂໃໄ" + "\uaab5\uaab6\uaab9\uaabb\uaabc")  # vowels before their consonant
_STACKING = frozenset("\u17d2\u1039\u1a60")  # the consonant after one of these is written below the one before


def words_of(text: str) -> list[str]:
    """Return the words of a text: what is between spaces, divided into units where the script has no spaces."""
    return [unit for word in text.split() for unit in split_units(word)]


def split_units(word: str) -> list[str]:
    """Return the units of a text without white space; joined, they are the text. A text of other scripts is one."""
    if word.isascii() or not _LETTER_WITHOUT_SPACES.search(word):
        return [word] if word else []
    units: list[str] = []
    kind = before = ""  # of the letter before; the character before
    complete, stacked = True, False  # whether a unit may end here; whether the next consonant is written below
    for character in word:
        new = _kind(character)
        if new == "mark":
            joined, kind = True, "katakana" if _KATAKANA_LETTER.match(character) else kind
        elif new == "punctuation":
            joined, kind = True, "" if kind == "katakana" else kind
        elif new == "opening":
            joined = False
        else:
            joined = stacked or (new == kind and _runs_on(kind, before))
            kind = new
        if units and (joined or not complete):
            units[-1] += character
        else:
            units.append(character)
            complete = False
        stacked = character in _STACKING or (stacked and new == "mark")
        before = character
        # A unit of signs alone goes on, until it has a letter.
        complete = (complete or new not in ("mark", "punctuation")) and new not in ("opening", "before")
    return units


def is_written_without_spaces(character: str) -> bool:
    """Return whether a character is a letter, or a sign of one, in a script without spaces; digits are not."""
    return bool(_LETTER_WITHOUT_SPACES.match(character)) and unicodedata.category(character) != "Nd"


def writes_spaces(texts: Iterable[str]) -> bool:
    """Return whether most letters of the texts belong to scripts that write spaces between words.

    If they do not, what is between spaces is a whole sentence. True without letters.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return letters_write_spaces(counts)


def letters_write_spaces(counts: Mapping[str, int]) -> bool:
    """Return the same for texts with these characters, each with how often it occurs."""
    letters = {character: count for character, count in counts.items() if character.isalpha()}
    without = sum(count for character, count in letters.items() if is_written_without_spaces(character))
    return 2 * without <= sum(letters.values())


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """Return what decides between which characters a unit ends."""
    category = unicodedata.category(character)
    if category[0] == "M" or character in _BELONGS_BEFORE:
        return "mark"
    if category in ("Ps", "Pi"):
        return "opening"
    if category[0] == "P":
        return "punctuation"
    if category == "Nd" or not _LETTER_WITHOUT_SPACES.match(character):
        return "run"
    if _KATAKANA_LETTER.match(character):
        return "katakana"
    if _TIBETAN_LETTER.match(character):
        return "tibetan"
    return "before" if character in _BELONGS_AFTER else "alone"


def _runs_on(kind: str, before: str) -> bool:
    """Return whether a letter joins one of its kind: no ideograph does, and no syllable after a tsheg."""
    if kind == "tibetan":
        return unicodedata.category(before)[0] != "P"
    return kind in ("run", "katakana")
