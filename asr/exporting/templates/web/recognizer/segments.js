// Recordings that arrive in blocks → segments, cut where nobody speaks; asr/audio/segment.py explains it.

import {joined} from './resample.js';
import {isSpeech, WINDOW_S} from './speech_detector.js';

export const FILE_RULE = {pauseS: 0.6, longestS: 30, beforeS: 0.3, afterS: 0.2, earlyPauseS: 0.3};
export const STREAM_RULE = {pauseS: 0.5, longestS: 20, beforeS: 0.25, afterS: 0.25, earlyPauseS: null};

const STEP_S = 0.02;
const QUIET_S = 0.2;
const EARLY_FROM_S = 1;

/** Cuts one recording, which arrives in blocks, into segments {start, waveform}; `start` counts samples. */
export class Segmenter {
  constructor(rateHz, rule, detector) {
    const samples = (seconds) => Math.trunc(seconds * rateHz);
    this.rateHz = rateHz;
    this.pause = Math.max(1, samples(rule.pauseS));
    this.earlyPause = Math.min(this.pause, samples(rule.earlyPauseS ?? rule.pauseS));
    this.earlyFrom = samples(EARLY_FROM_S);
    this.longest = samples(rule.longestS);
    this.before = samples(rule.beforeS);
    this.after = samples(Math.min(rule.afterS, rule.pauseS));
    this.detector = detector;
    this.tape = new Tape();
    this.windows = 0;
    this.inSpeech = false;
    this.start = null; // of the segment that is open, if one is
    this.spokenEnd = 0; // where its last window with speech ended
  }

  /** Return the segments that have ended by now and had not before. */
  async hear(block, last = false) {
    this.tape.append(block);
    const ended = [];
    for (const probability of await this.detector.hear(block, last)) {
      this.inSpeech = isSpeech(probability, this.inSpeech);
      const begin = rounded(this.windows * WINDOW_S * this.rateHz);
      this.windows += 1;
      const end = Math.min(rounded(this.windows * WINDOW_S * this.rateHz), this.tape.end);
      const cut = this.placeOfCut(begin, end);
      if (cut !== null) ended.push(this.cut(cut));
    }
    if (last && this.start !== null) ended.push(this.cut(this.certainEnd));
    return ended;
  }

  /** The segment that has begun but not ended, as far as it was heard; null while nobody speaks. */
  get open() {
    return this.start === null ? null : this.tape.segment(this.start, this.certainEnd);
  }

  get certainEnd() {
    return Math.min(this.spokenEnd + this.after, this.tape.end);
  }

  /** Take in a window; return where the open segment ends, or null if it does not. */
  placeOfCut(begin, end) {
    if (this.inSpeech) {
      this.start ??= Math.max(begin - this.before, this.tape.start);
      this.spokenEnd = end;
    }
    if (this.start === null) {
      this.tape.forget(end - this.before);
      return null;
    }
    const longEnough = this.spokenEnd - this.start >= this.earlyFrom;
    if (end - this.spokenEnd >= (longEnough ? this.earlyPause : this.pause)) return this.spokenEnd + this.after;
    if (end + this.after - this.start > this.longest) {
      return quietest(this.tape, this.start + Math.floor(this.longest / 2), end, this.rateHz);
    }
    return null;
  }

  cut(end) {
    const segment = this.tape.segment(this.start, end);
    this.tape.forget(end);
    this.start = this.spokenEnd > end ? end : null;
    return segment;
  }
}

/**
 * Yield the segments of a whole recording, each as soon as it is known, as {start, waveform, heard}; `heard` is up to
 * where the recording has been looked at, in samples.
 */
export async function* segments(samples, rateHz, detector) {
  const segmenter = new Segmenter(rateHz, FILE_RULE, detector);
  const none = new Float32Array(0);
  if (samples.length <= FILE_RULE.longestS * rateHz) {
    const found = [...await segmenter.hear(samples), ...await segmenter.hear(none, true)];
    const shown = found.length === 1 ? [withShortSilence(samples, found[0], rateHz)] : found;
    yield* shown.map((segment) => ({...segment, heard: samples.length}));
    return;
  }
  const step = 10 * rateHz;
  for (let start = 0; start < samples.length; start += step) {
    const heard = Math.min(start + step, samples.length);
    for (const segment of await segmenter.hear(samples.subarray(start, heard))) yield {...segment, heard};
  }
  for (const segment of await segmenter.hear(none, true)) yield {...segment, heard: samples.length};
}

/** Return the only segment of a recording, extended to the recording's ends where the silence there is no pause. */
function withShortSilence(whole, only, rateHz) {
  const {pauseS, beforeS, afterS} = FILE_RULE;
  let [start, end] = [only.start, only.start + only.waveform.length];
  if (start < (pauseS - beforeS) * rateHz) start = 0;
  if (whole.length - end < (pauseS - afterS) * rateHz) end = whole.length;
  return {start, waveform: whole.subarray(start, end)};
}

/** The samples of a recording from `start` on; earlier ones are forgotten. */
class Tape {
  constructor() {
    this.samples = new Float32Array(0);
    this.start = 0;
  }

  get end() {
    return this.start + this.samples.length;
  }

  append(block) {
    this.samples = joined([this.samples, block]);
  }

  forget(until) {
    if (until <= this.start) return;
    this.samples = this.samples.subarray(until - this.start);
    this.start = until;
  }

  segment(start, end) {
    return {start, waveform: this.part(start, end).slice()};
  }

  part(start, end) {
    return this.samples.subarray(start - this.start, Math.max(end - this.start, 0));
  }
}

/** Return the middle of the quietest fifth of a second between two samples of the tape. */
function quietest(tape, start, end, rateHz) {
  const step = Math.trunc(STEP_S * rateHz);
  const energies = variances(tape.part(start, end), step);
  const width = Math.round(QUIET_S / STEP_S);
  let [best, least] = [0, Infinity];
  for (let first = 0; first + width <= energies.length; first += 1) {
    let sum = 0;
    for (let place = first; place < first + width; place += 1) sum += energies[place];
    if (sum < least) [best, least] = [first, sum];
  }
  return start + Math.trunc((best + width / 2) * step);
}

/** Return the variance of each whole step of samples. An offset is no sound. */
function variances(waveform, step) {
  return Array.from({length: Math.floor(waveform.length / step)}, (_, place) => {
    const part = waveform.subarray(place * step, (place + 1) * step);
    const mean = part.reduce((sum, sample) => sum + sample, 0) / step;
    return part.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / step;
  });
}

/** Round as Python does: a half goes to the even neighbour. */
export function rounded(number) {
  const down = Math.floor(number);
  if (number - down !== 0.5) return Math.round(number);
  return down % 2 ? down + 1 : down;
}

const LOUDNESS_STEP_S = 0.01;
const LOUD_SHARE = 0.25;
const DEPTH_DB = 34;
const BURST_S = 0.05;
const APART_S = 0.1;
const FADE_IN_S = 0.03;
const LEAST_POWER = 1e-14;

/** Return [start, end] of the speech in an utterance's waveform, in seconds, by its loudness alone. */
export function speechExtent(waveform, rateHz) {
  const wholeS = waveform.length / rateHz;
  const loud = loudSteps(waveform, rateHz);
  if (!loud.length) return [0, wholeS];
  const runs = [[loud[0]]];
  for (const step of loud.slice(1)) {
    if (step - runs.at(-1).at(-1) > APART_S / LOUDNESS_STEP_S) runs.push([]);
    runs.at(-1).push(step);
  }
  const sounds = runs.filter((run) => run.length >= BURST_S / LOUDNESS_STEP_S);
  const kept = sounds.length ? sounds : runs;
  const [first, last] = [kept[0][0], kept.at(-1).at(-1)];
  return [Math.max(first * LOUDNESS_STEP_S - FADE_IN_S, 0), Math.min((last + 1) * LOUDNESS_STEP_S, wholeS)];
}

/** Return which steps of `LOUDNESS_STEP_S` are loud. */
function loudSteps(waveform, rateHz) {
  const powers = variances(waveform, rounded(LOUDNESS_STEP_S * rateHz));
  if (!powers.length) return [];
  const raw = powers.map((power) => 10 * Math.log10(power + LEAST_POWER));
  const level = raw.map((own, place) => ((raw[place - 1] ?? own) + own + (raw[place + 1] ?? own)) / 3);
  const ascending = Float64Array.from(level).sort();
  const loudDb = percentile(ascending, 95);
  const quietDb = Math.max(percentile(ascending, 5), loudDb - DEPTH_DB);
  const bar = quietDb + LOUD_SHARE * (loudDb - quietDb);
  return [...level.keys()].filter((place) => level[place] > bar);
}

/** Return a percentile of ascending numbers, between two of them in proportion. */
function percentile(ascending, percent) {
  const place = percent / 100 * (ascending.length - 1);
  const [below, above] = [ascending[Math.floor(place)], ascending[Math.ceil(place)]];
  return below + (above - below) * (place - Math.floor(place));
}
