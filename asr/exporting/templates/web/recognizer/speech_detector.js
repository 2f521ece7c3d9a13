// Recordings that arrive in blocks → the probability of speech in each window; asr/audio/speech_detector.py explains it.

import {joined} from './resample.js';

export const WINDOW_S = 0.032;
export const RATE_HZ = 16000;
const WINDOW = 512; // samples
const CONTEXT = 64;
const UNITS = 128;
const AT_ONCE = 1000;

const BEGINS = 0.5;
const ENDS = 0.35;

const LEVEL = 10 ** -2.8;
const QUIETEST = 1e-9;
const SMOOTHED_WINDOWS = 6;
const KEEPS = 10 ** (-6 * WINDOW_S / 10);
const DEEPEST = 10 ** (-30 / 10);

/** Return whether somebody speaks in a window, given whether somebody did in the one before. */
export function isSpeech(probability, before) {
  return probability >= (before ? ENDS : BEGINS);
}

/** Mean powers of consecutive windows → the level at each of them, by what was heard until then. */
class RunningLevel {
  constructor() {
    this.recent = [];
    this.loudest = this.level = 0;
  }

  at(power) {
    this.recent = [...this.recent.slice(1 - SMOOTHED_WINDOWS), power];
    const smoothed = this.recent.reduce((sum, one) => sum + one, 0) / this.recent.length;
    this.loudest = Math.max(this.loudest, smoothed);
    this.level = Math.max(smoothed, this.level * KEEPS, this.loudest * DEEPEST, QUIETEST);
    return this.level;
  }
}

export class SpeechDetector {
  /**
   * Begin a recording.
   *
   * network: a function {windows, hidden, cell} → {probabilities, next_hidden, next_cell}; resampler: from the
   * recording's rate to `RATE_HZ`.
   */
  constructor(network, resampler) {
    this.network = network;
    this.resampler = resampler;
    this.samples = new Float32Array(0); // those not yet in a window, after their context
    this.level = new RunningLevel();
    this.state = {
      hidden: {data: new Float32Array(UNITS), dims: [1, 1, UNITS]},
      cell: {data: new Float32Array(UNITS), dims: [1, 1, UNITS]},
    };
  }

  /** Return the probabilities of the windows that a block completes, Float32Array. */
  async hear(block, last = false) {
    const heard = this.resampler.hear(block, last);
    if (!this.samples.length && heard.length) this.samples = new Float32Array(CONTEXT).fill(heard[0]);
    this.samples = joined([this.samples, heard]);
    const over = (this.samples.length - CONTEXT) % WINDOW;
    if (last && this.samples.length && over) {
      this.samples = joined([this.samples, new Float32Array(WINDOW - over).fill(this.samples.at(-1))]);
    }
    const windows = Math.max(0, Math.floor((this.samples.length - CONTEXT) / WINDOW));
    const found = [];
    for (let first = 0; first < windows; first += AT_ONCE) {
      found.push(await this.probabilities(first, Math.min(AT_ONCE, windows - first)));
    }
    this.samples = this.samples.slice(windows * WINDOW);
    return joined(found);
  }

  async probabilities(first, count) {
    const size = CONTEXT + WINDOW;
    const levelled = new Float32Array(count * size);
    for (let window = 0; window < count; window += 1) {
      const start = (first + window) * WINDOW;
      levelled.set(this.levelled(this.samples.subarray(start, start + size)), window * size);
    }
    const result = await this.network({windows: {data: levelled, dims: [count, size]}, ...this.state});
    this.state = {hidden: result.next_hidden, cell: result.next_cell};
    return result.probabilities.data;
  }

  /** Return a window with its context, without its mean and at the usual level. */
  levelled(samples) {
    const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
    let power = 0;
    for (let place = CONTEXT; place < samples.length; place += 1) power += (samples[place] - mean) ** 2;
    const gain = Math.sqrt(LEVEL / this.level.at(power / WINDOW));
    return samples.map((sample) => (sample - mean) * gain);
  }
}
