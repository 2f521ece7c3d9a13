// A text → its words, also where the script writes no spaces; asr/text/units.py explains the rule.

const TIBETAN = '\\u0f00-\\u0fff';
const KATAKANA = '\\u30a1-\\u30fa\\u30fc-\\u30ff\\u31f0-\\u31ff\\uff66-\\uff9f';
const WITHOUT_SPACES = '\\u0e00-\\u0eff' + TIBETAN
  + '\\u1000-\\u109f\\ua9e0-\\ua9ff\\uaa60-\\uaa7f\\u1780-\\u17ff'
  + '\\u1950-\\u19df\\u1a20-\\u1aaf\\uaa80-\\uaadf'
  + '\\u2e80-\\u2fdf\\u3005-\\u3007\\u3021-\\u3029\\u3031-\\u3035\\u3038-\\u303c'
  + '\\u3041-\\u309f' + KATAKANA + '\\u3105-\\u312f\\u31a0-\\u31bf'
  + '\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}'
  + '\\ua000-\\ua48f\\u{16fe0}-\\u{18dff}\\u{1aff0}-\\u{1b2ff}';
const LETTER_WITHOUT_SPACES = new RegExp(`[${WITHOUT_SPACES}]`, 'u');
const TIBETAN_LETTER = new RegExp(`[${TIBETAN}]`, 'u');
const KATAKANA_LETTER = new RegExp(`[${KATAKANA}]`, 'u');

const BELONGS_BEFORE = new Set('\u0e33\u0eb3' + '々〻ゝゞーヽヾ' + 'ぁぃぅぇぉっゃゅょゎゕゖ' + '\uff70\uff9e\uff9f\u200c\u200d');
const BELONGS_AFTER = new Set('\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4\uaab5\uaab6\uaab9\uaabb\uaabc');
const STACKING = new Set('\u17d2\u1039\u1a60');

const WHITE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u; // as Python splits

/** Return what is between white space. */
export function split(text) {
  return text.split(WHITE).filter(Boolean);
}

/** Return the words of a text: what is between spaces, divided into units where the script has no spaces. */
export function wordsOf(text) {
  return split(text).flatMap(splitUnits);
}

/** Return the units of a text without white space; joined, they are the text. A text of other scripts is one. */
export function splitUnits(word) {
  if (!LETTER_WITHOUT_SPACES.test(word)) return word ? [word] : [];
  const units = [];
  let [kind, before] = ['', '']; // of the letter before; the character before
  let [complete, stacked] = [true, false]; // whether a unit may end here; whether the next consonant is written below
  for (const character of word) {
    const now = kindOf(character);
    let joins = true;
    if (now === 'mark') kind = KATAKANA_LETTER.test(character) ? 'katakana' : kind;
    else if (now === 'punctuation') kind = kind === 'katakana' ? '' : kind;
    else if (now === 'opening') joins = false;
    else {
      joins = stacked || (now === kind && runsOn(kind, before));
      kind = now;
    }
    if (units.length && (joins || !complete)) units[units.length - 1] += character;
    else {
      units.push(character);
      complete = false;
    }
    stacked = STACKING.has(character) || (stacked && now === 'mark');
    before = character;
    complete = (complete || !['mark', 'punctuation'].includes(now)) && !['opening', 'before'].includes(now);
  }
  return units;
}

function kindOf(character) {
  if (/\p{M}/u.test(character) || BELONGS_BEFORE.has(character)) return 'mark';
  if (/[\p{Ps}\p{Pi}]/u.test(character)) return 'opening';
  if (/\p{P}/u.test(character)) return 'punctuation';
  if (/\p{Nd}/u.test(character) || !LETTER_WITHOUT_SPACES.test(character)) return 'run';
  if (KATAKANA_LETTER.test(character)) return 'katakana';
  if (TIBETAN_LETTER.test(character)) return 'tibetan';
  return BELONGS_AFTER.has(character) ? 'before' : 'alone';
}

function runsOn(kind, before) {
  if (kind === 'tibetan') return !/\p{P}/u.test(before);
  return kind === 'run' || kind === 'katakana';
}
