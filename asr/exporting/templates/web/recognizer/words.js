// Tokens with frames → words with times and confidences; asr/transcript/words.py and confidence.py explain the rules.

import {split, splitUnits, wordsOf} from './units.js';

const LATENESS_S = 0.07;
const ONSET_S = 0.7;
const GROWTH_S = 0.15;

const MOST_LOG_ODDS = 3;
const LEAST_ACOUSTIC = -20;

/** Return what each token adds to a text, from the description of a model; a token that starts a word has a space. */
export function tokenTexts({tokens, token_kind: kind}) {
  if (kind === 'char') return tokens;
  if (kind === 'words') return tokens.map((token, place) => place ? ` ${token}` : token);
  return tokens.map((token) => token.replaceAll('\u2581', ' '));
}

/** Return the text of tokens, with single spaces. */
export function decode(tokens, texts) {
  return split(tokens.map((token) => texts[token]).join('')).join(' ');
}

/**
 * Return the words of an utterance: {text, start_s, end_s, confidence, space_before}, as in the JSON of transcripts.
 *
 * hypotheses: best first, {tokens, score}; spans: of the best one's tokens, of `align`; speech: of `speechExtent`;
 * known: {texts, frameShiftS, calibration}; offsetS: where the utterance starts in its recording.
 */
export function toWords(hypotheses, spans, speech, known, offsetS) {
  const words = byWord(spans, known.texts);
  const extents = wordExtents(words.map((word) => word.spans), known.frameShiftS, speech);
  const posteriors = wordPosteriors(hypotheses, known.texts);
  return words.map(({text, spans, spaceBefore}, place) => ({
    text,
    start_s: offsetS + extents[place][0],
    end_s: offsetS + extents[place][1],
    confidence: confidence(posteriors && posteriors[place], acousticValue(spans), known.calibration),
    space_before: spaceBefore,
  }));
}

function byWord(spans, texts) {
  const words = [[]];
  for (const span of spans) {
    const text = texts[span.token];
    if (text.startsWith(' ')) words.push([]);
    if (text !== ' ') words.at(-1).push(span);
  }
  return words.filter((word) => word.length).flatMap((word) => byUnit(word, texts));
}

/** Return the units of what is between two spaces: usually one, which is the word. */
function byUnit(spans, texts) {
  const text = decode(spans.map((span) => span.token), texts);
  const units = splitUnits(text);
  if (units.length < 2) return [{text, spans, spaceBefore: true}];
  const characters = spans.flatMap((span) => {
    const length = [...split(texts[span.token]).join(' ')].length;
    return Array.from({length}, (_, place) => ({span, place, length}));
  });
  let begin = 0;
  return units.map((unit) => {
    const inside = characters.slice(begin, begin + [...unit].length);
    const parts = [];
    for (const character of inside) {
      if (parts.at(-1)?.[0].span === character.span) parts.at(-1).push(character);
      else parts.push([character]);
    }
    const word = {text: unit, spans: parts.map(part), spaceBefore: begin === 0};
    begin += [...unit].length;
    return word;
  });
}

/** Return the part of a token's span that some of its characters take; each takes the same share. */
function part(characters) {
  const {span, place, length} = characters[0];
  if (characters.length === length) return span;
  const frames = (span.end - span.start) / length;
  return {
    start: span.start + place * frames,
    end: span.start + (place + characters.length) * frames,
    probability: span.probability,
  };
}

function acousticValue(spans) {
  return spans.reduce((sum, span) => sum + Math.log(Math.max(span.probability, 1e-30)), 0) / spans.length;
}

/** Return [start, end] of each word in seconds from the utterance's start. They do not overlap. */
function wordExtents(words, frameShiftS, [speechStartS, speechEndS]) {
  if (!words.length) return [];
  const firstS = (words[0][0].start - 0.5) * frameShiftS;
  const onsetEndS = speechStartS + ONSET_S;
  const spokenS = (frame) => {
    const emittedS = frame * frameShiftS;
    if (firstS - LATENESS_S >= speechStartS || emittedS >= onsetEndS) return Math.max(emittedS - LATENESS_S, 0);
    const share = (emittedS - firstS) / (onsetEndS - firstS);
    return speechStartS + share * (onsetEndS - LATENESS_S - speechStartS);
  };
  let firstStartS = spokenS(words[0][0].start - 0.5);
  if (firstStartS - GROWTH_S <= speechStartS) firstStartS = Math.min(firstStartS, speechStartS);
  const last = words.at(-1).at(-1);
  let lastEndS = spokenS(last.end - 0.5);
  if (spokenS(last.start) < speechEndS) lastEndS = Math.min(speechEndS, lastEndS + GROWTH_S);
  const edges = [[firstStartS, firstStartS]];
  for (let place = 1; place < words.length; place += 1) {
    const [end, start] = [words[place - 1].at(-1).end - 1, words[place][0].start];
    const middleS = spokenS((end + start) / 2);
    edges.push([Math.min(middleS, spokenS(end) + GROWTH_S), Math.max(middleS, spokenS(start) - GROWTH_S)]);
  }
  edges.push([lastEndS, lastEndS]);
  return words.map((_, place) => {
    const startS = edges[place][1];
    return [startS, Math.max(startS, edges[place + 1][0])];
  });
}

function confidence(posterior, acoustic, calibration) {
  if (posterior === null) return Math.exp(Math.min(acoustic, 0));
  const within = (value, least, most) => Math.min(Math.max(value, least), most);
  const probable = within(posterior, 1e-9, 1 - 1e-9);
  const logOdds = calibration.bias
    + calibration.posterior * within(Math.log(probable / (1 - probable)), -MOST_LOG_ODDS, MOST_LOG_ODDS)
    + calibration.acoustic * within(acoustic, LEAST_ACOUSTIC, 0);
  return 1 / (1 + Math.exp(-Math.max(logOdds, -700)));
}

/**
 * Return for each word of the first hypothesis the share of the probability with this word at this place; null if there
 * is no other hypothesis.
 */
function wordPosteriors(hypotheses, texts) {
  if (hypotheses.length === 1) return null;
  const all = hypotheses.map((hypothesis) => wordsOf(decode(hypothesis.tokens, texts)));
  const most = Math.max(...hypotheses.map((hypothesis) => hypothesis.score));
  const weights = hypotheses.map((hypothesis) => Math.exp(hypothesis.score - most));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  const shares = new Float64Array(all[0].length);
  all.forEach((words, place) => {
    for (const word of matched(all[0], words)) shares[word] += weights[place] / whole;
  });
  return [...shares].map((share) => Math.min(share, 1));
}

/**
 * Return the places in `one` that match places in `other`: the longest common run, and what matches before and after it.
 *
 * Source: Ratcliff & Metzener 1988, "Pattern matching: the Gestalt approach", as Python's difflib has it.
 */
function matched(one, other) {
  const found = [];
  const waiting = [[0, one.length, 0, other.length]];
  while (waiting.length) {
    const [from, to, otherFrom, otherTo] = waiting.pop();
    const [start, otherStart, size] = longestRun(one, other, from, to, otherFrom, otherTo);
    if (!size) continue;
    for (let place = 0; place < size; place += 1) found.push(start + place);
    waiting.push([from, start, otherFrom, otherStart], [start + size, to, otherStart + size, otherTo]);
  }
  return found;
}

/** Return [place, place in the other, length] of the longest common run; of several the first one. */
function longestRun(one, other, from, to, otherFrom, otherTo) {
  let best = [from, otherFrom, 0];
  let lengths = new Map(); // of the run that ends at a place of the other and the place before
  for (let place = from; place < to; place += 1) {
    const next = new Map();
    for (let otherPlace = otherFrom; otherPlace < otherTo; otherPlace += 1) {
      if (one[place] !== other[otherPlace]) continue;
      const length = (lengths.get(otherPlace - 1) ?? 0) + 1;
      next.set(otherPlace, length);
      if (length > best[2]) best = [place - length + 1, otherPlace - length + 1, length];
    }
    lengths = next;
  }
  return best;
}
