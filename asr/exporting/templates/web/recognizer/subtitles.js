// Words → subtitles and text to download, as Python writes them; asr/transcript/subtitles.py and transcript.py explain
// the rules.

import {joinedText} from './recognizer.js';
import {rounded} from './segments.js';
import {splitUnits} from './units.js';

const LINES = 2;
const LINE_COLUMNS = 42;
const SHORTEST_MS = 1000;
const LONGEST_MS = 7000;
const PAUSE_MS = 500;

// Characters that take two columns of a terminal: Unicode Standard Annex #11, "East Asian width".
const WIDE = new RegExp('[\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4c6\\ua960-\\ua97c\\uac00-\\ud7a3\\uf900-\\ufaff'
  + '\\ufe10-\\ufe19\\ufe30-\\ufe6b\\uff01-\\uff60\\uffe0-\\uffe6\\u{16fe0}-\\u{18dff}\\u{1aff0}-\\u{1b2ff}'
  + '\\u{1f200}-\\u{1f64f}\\u{1f900}-\\u{1f9ff}\\u{20000}-\\u{3fffd}]', 'u');

/** Return SubRip subtitles. A word joiner keeps a player from taking text for a tag or for times. */
export function toSrt(words) {
  return breakIntoCues(words).map(({startMs, endMs, lines}, place) => {
    const text = lines.join('\n').replace(/<|\{(?=\\)|--(?=>)/g, '$&\u2060');
    return `${place + 1}\n${time(startMs, ',')} --> ${time(endMs, ',')}\n${text}\n`;
  }).join('\n');
}

/** Return WebVTT subtitles. */
export function toVtt(words) {
  const cues = breakIntoCues(words).map(({startMs, endMs, lines}) => {
    const text = lines.join('\n').replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
    return `${time(startMs, '.')} --> ${time(endMs, '.')}\n${text}\n`;
  });
  return ['WEBVTT\n', ...cues].join('\n');
}

/** Return the text as one line. */
export function toTxt(words) {
  return `${printable(joinedText(words))}\n`;
}

/** Return what `asr transcribe --format json` writes. */
export function toJson(words, durationS, name) {
  const rounded = (number, digits) => Number(number.toFixed(digits));
  const sum = words.reduce((total, word) => total + word.confidence, 0);
  const content = {
    path: name,
    channel: null,
    duration_s: rounded(durationS, 3),
    text: joinedText(words),
    confidence: words.length ? rounded(sum / words.length, 4) : 0,
    words: words.map(({text, start_s, end_s, confidence, space_before}) => ({
      text,
      start_s: rounded(start_s, 3),
      end_s: rounded(end_s, 3),
      confidence: rounded(confidence, 4),
      ...(space_before ? {} : {space_before}),
    })),
  };
  return `${JSON.stringify(content, null, 2)}\n`;
}

/** Return the words as cues {startMs, endMs, lines}: the cheapest of all ways to break them. */
function breakIntoCues(given) {
  const words = given.flatMap((word) => divided({...word, text: printable(word.text)}));
  const timesMs = words.map((word) => [rounded(1000 * word.start_s), rounded(1000 * word.end_s)]);
  const best = Array(words.length + 1).fill({cost: [0, 0, 0], after: words.length});
  for (let first = words.length - 1; first >= 0; first -= 1) {
    const ways = possibleBreaks(words, timesMs, first).map((after) => ({
      cost: costOf(words, timesMs, first, after).map((part, place) => part + best[after].cost[place]),
      after,
    }));
    best[first] = ways.reduce((one, other) => isCheaper(other.cost, one.cost) ? other : one);
  }
  const cues = [];
  for (let first = 0; first < words.length; first = best[first].after) {
    const {after} = best[first];
    const [startMs, endMs] = shownMs(timesMs, first, after);
    cues.push({startMs, endMs, lines: linesOf(words.slice(first, after))});
  }
  return cues;
}

function isCheaper(one, other) {
  const place = one.findIndex((part, number) => part !== other[number]);
  return place >= 0 && one[place] < other[place];
}

/** Return the ends (exclusive) of cues from word `first` on that keep the limits of size and time. */
function possibleBreaks(words, timesMs, first) {
  const found = [first + 1];
  let [lines, column] = [1, columns(words[first].text)];
  for (let last = first + 1; last < words.length; last += 1) {
    const width = columns(words[last].text);
    const space = words[last].space_before ? 1 : 0;
    if (column + space + width <= LINE_COLUMNS) column += space + width;
    else [lines, column] = [lines + 1, width];
    if (lines > LINES || timesMs[last][1] - timesMs[first][0] > LONGEST_MS) return found;
    found.push(last + 1);
  }
  return found;
}

/** Return start and end of a cue: as long as its words, and at least 1 s if the next cue leaves room. */
function shownMs(timesMs, first, after) {
  const startMs = timesMs[first][0];
  let endMs = Math.max(timesMs[after - 1][1], startMs + SHORTEST_MS);
  if (after < timesMs.length) endMs = Math.min(endMs, timesMs[after][0]);
  return [startMs, Math.min(endMs, startMs + LONGEST_MS)];
}

/** Return what a cue costs: shown too briefly, pauses inside it, badness; compared in this order. */
function costOf(words, timesMs, first, after) {
  const [startMs, endMs] = shownMs(timesMs, first, after);
  const gapMs = (word) => timesMs[word][0] - timesMs[word - 1][1];
  let [pauses, width] = [0, words[first].space_before ? -1 : 0];
  for (let word = first; word < after; word += 1) {
    width += columns(words[word].text) + (words[word].space_before ? 1 : 0);
    if (word > first && gapMs(word) > PAUSE_MS) pauses += 1;
  }
  let badness = 1 + (1 - width / (LINES * LINE_COLUMNS)) ** 2;
  if (after < words.length) badness += 1 - Math.min(Math.max(gapMs(after), 0), PAUSE_MS) / PAUSE_MS;
  return [endMs - startMs < SHORTEST_MS ? 1 : 0, pauses, badness];
}

/** Return words that fit as one line if possible, else as two of about equal width. */
function linesOf(words) {
  const line = joinedText(words);
  if (words.length === 1 || columns(line) <= LINE_COLUMNS) return [line];
  const fits = (half) => half.length === 1 || columns(joinedText(half)) <= LINE_COLUMNS;
  const width = (lines) => Math.max(...lines.map(columns));
  return words.slice(1)
    .map((_, place) => [words.slice(0, place + 1), words.slice(place + 1)])
    .filter((halves) => halves.every(fits))
    .map((halves) => halves.map(joinedText))
    .reduce((one, other) => width(other) < width(one) ? other : one);
}

/** Return the units of a word that was not divided before; each character takes the same share of its time. */
function divided(word) {
  const units = splitUnits(word.text);
  if (units.length < 2) return [word];
  const length = [...word.text].length;
  let [done, startS] = [0, word.start_s];
  return units.map((text, place) => {
    done += [...text].length;
    const endS = word.start_s + (word.end_s - word.start_s) * done / length;
    const unit = {...word, text, start_s: startS, end_s: endS, space_before: word.space_before && place === 0};
    startS = endS;
    return unit;
  });
}

/** Return how many columns of a terminal a text takes. */
function columns(text) {
  return [...text].reduce((sum, character) => {
    if (/[\p{Mn}\p{Me}\p{Cf}]/u.test(character)) return sum;
    return sum + (WIDE.test(character) ? 2 : 1);
  }, 0);
}

/** Return text as one line that shows all of it: control characters become escapes such as \x1b. */
function printable(text) {
  return text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const named = {'\n': '\\n', '\r': '\\r', '\t': '\\t'}[character];
    const number = character.codePointAt(0).toString(16);
    return named ?? (number.length <= 2 ? `\\x${number.padStart(2, '0')}` : `\\u${number.padStart(4, '0')}`);
  });
}

/** Return HH:MM:SS, `point`, milliseconds. */
function time(timeMs, point) {
  const two = (number) => String(Math.floor(number)).padStart(2, '0');
  const seconds = timeMs / 1000;
  return `${two(seconds / 3600)}:${two(seconds / 60 % 60)}:${two(seconds % 60)}${point}${String(timeMs % 1000).padStart(3, '0')}`;
}
