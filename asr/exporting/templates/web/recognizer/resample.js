// Samples at one rate → samples at another; asr/audio/resample.py explains both ways: for files and for streams.

import {fourier} from './fourier.js';

const PASSED = 0.913; // up to this share of the lower rate's band nothing changes
const STRETCH_S = 10;
const OVERLAP_S = 1;

/** Changes the rate of a recording that arrives in blocks; its samples are known some seconds later. */
export class FourierResampler {
  constructor(fromHz, toHz) {
    this.ratesHz = [fromHz, toHz];
    this.overlap = OVERLAP_S * fromHz;
    this.stretch = STRETCH_S * fromHz;
    this.waiting = new Float32Array(0);
  }

  /** Return the samples that are known by now: none for some seconds, the rest with the last block. */
  hear(block, last = false) {
    const [fromHz, toHz] = this.ratesHz;
    if (fromHz === toHz) return block;
    if (!this.waiting.length && block.length) this.waiting = new Float32Array(this.overlap).fill(block[0]);
    this.waiting = joined([this.waiting, block]);
    const known = [];
    while (this.waiting.length >= this.stretch + 2 * this.overlap) {
      known.push(this.middle(this.waiting.subarray(0, this.stretch + 2 * this.overlap)));
      this.waiting = this.waiting.slice(this.stretch);
    }
    const rest = this.waiting.length - this.overlap;
    if (last && rest > 0) {
      const seconds = Math.ceil(rest / fromHz) + 2 * OVERLAP_S;
      const padded = new Float32Array(seconds * fromHz).fill(this.waiting.at(-1));
      padded.set(this.waiting);
      known.push(this.middle(padded).subarray(0, Math.ceil(rest * toHz / fromHz)));
    }
    return joined(known);
  }

  /** Return whole seconds of audio at the other rate, without the overlap on either side. */
  middle(waveform) {
    const [fromHz, toHz] = this.ratesHz;
    const lower = Math.min(fromHz, toHz);
    const seconds = Math.floor(waveform.length / fromHz);
    const length = seconds * toHz;
    const [real, imaginary] = spectrum(Float64Array.from(waveform), new Float64Array(waveform.length));
    const [newReal, newImaginary] = [new Float64Array(length), new Float64Array(length)];
    const bins = Math.floor(seconds * lower / 2) + 1;
    for (let bin = 0; bin < bins; bin += 1) {
      const share = bin / seconds / (lower / 2);
      const fall = Math.min(Math.max((share - PASSED) / (1 - PASSED), 0), 1);
      // Divided by the length, because the transform back does not do it; and conjugate, so that it goes forwards.
      const gain = toHz / fromHz * Math.cos(Math.PI / 2 * fall) ** 2 / length;
      const mirrored = (length - bin) % length;
      newReal[bin] = newReal[mirrored] = gain * real[bin];
      newImaginary[bin] = -gain * imaginary[bin];
      newImaginary[mirrored] = bin === mirrored ? 0 : gain * imaginary[bin];
    }
    const [whole] = spectrum(newReal, newImaginary);
    return Float32Array.from(whole.subarray(OVERLAP_S * toHz, length - OVERLAP_S * toHz));
  }
}

const HALF_FILTER = 74; // in samples of the lower rate
const KAISER_BETA = 10;

/** Changes the rate of a recording that arrives in blocks; its samples are known 5 to 10 ms later. */
export class SincResampler {
  constructor(fromHz, toHz) {
    const common = greatestDivisor(fromHz, toHz);
    [this.up, this.down] = [toHz / common, fromHz / common];
    const ratio = Math.min(1, toHz / fromHz);
    this.cutoff = ratio * (1 + PASSED) / 2;
    this.half = Math.ceil(HALF_FILTER / ratio);
    this.table = new Map(); // by phase
    this.waiting = new Float32Array(0);
    this.start = -this.half; // the input that `waiting` begins with
    this.taken = this.given = 0;
  }

  /** Return the samples that are known by now, the rest with the last block. */
  hear(block, last = false) {
    if (this.up === this.down) return block;
    if (!this.taken && block.length) this.waiting = new Float32Array(this.half).fill(block[0]);
    this.taken += block.length;
    this.waiting = joined([this.waiting, block]);
    if (last && this.taken) this.waiting = joined([this.waiting, new Float32Array(this.half).fill(this.waiting.at(-1))]);
    const known = last ? this.taken : Math.max(0, this.taken - this.half);
    const count = Math.ceil(known * this.up / this.down);
    const result = Float32Array.from({length: Math.max(count - this.given, 0)}, (_, place) => this.output(this.given + place));
    this.given = Math.max(count, this.given);
    const neededFrom = Math.floor(this.given * this.down / this.up) - this.half + 1;
    this.waiting = this.waiting.slice(Math.max(0, neededFrom - this.start));
    this.start = Math.max(this.start, neededFrom);
    return result;
  }

  output(number) {
    const phase = number * this.down % this.up;
    const weights = this.weights(phase);
    const first = (number * this.down - phase) / this.up - this.half + 1 - this.start;
    let sum = 0;
    for (let place = 0; place < weights.length; place += 1) sum += weights[place] * this.waiting[first + place];
    return sum;
  }

  /** Return the weights of the inputs around an output that is `phase / up` after an input. */
  weights(phase) {
    if (this.table.has(phase)) return this.table.get(phase);
    const weights = Float64Array.from({length: 2 * this.half}, (_, place) => {
      const distance = place - this.half + 1 - phase / this.up;
      const window = bessel(KAISER_BETA * Math.sqrt(Math.max(1 - (distance / this.half) ** 2, 0)));
      const angle = Math.PI * this.cutoff * distance;
      return (angle ? Math.sin(angle) / angle : 1) * window;
    });
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const scaled = Float32Array.from(weights, (weight) => weight / sum); // an offset stays an offset
    if (this.table.size >= MOST_PHASES) this.table.clear();
    this.table.set(phase, scaled);
    return scaled;
  }
}

const MOST_PHASES = 2000; // whose weights are kept

function greatestDivisor(one, other) {
  return other ? greatestDivisor(other, one % other) : one;
}

/** Return the modified Bessel function of the first kind of order 0, by its power series. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-17 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** Return blocks as one. */
export function joined(blocks) {
  const whole = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let place = 0;
  for (const block of blocks) {
    whole.set(block, place);
    place += block.length;
  }
  return whole;
}

/**
 * Return real and imaginary part of the Fourier transform of as many numbers as there are.
 *
 * Source: Bluestein 1970, "A linear filtering approach to the computation of discrete Fourier transform": a transform
 * of any length is a convolution, which transforms of a power of 2 compute.
 */
function spectrum(real, imaginary) {
  const {size, transform, chirp, kernel} = bluestein(real.length);
  const length = real.length;
  const [re, im] = [new Float64Array(size), new Float64Array(size)];
  for (let place = 0; place < length; place += 1) {
    re[place] = real[place] * chirp.real[place] - imaginary[place] * chirp.imaginary[place];
    im[place] = real[place] * chirp.imaginary[place] + imaginary[place] * chirp.real[place];
  }
  transform(re, im);
  for (let place = 0; place < size; place += 1) {
    const product = re[place] * kernel.real[place] - im[place] * kernel.imaginary[place];
    im[place] = -(re[place] * kernel.imaginary[place] + im[place] * kernel.real[place]); // conjugate: transforms back
    re[place] = product;
  }
  transform(re, im);
  const [outReal, outImaginary] = [new Float64Array(length), new Float64Array(length)];
  for (let place = 0; place < length; place += 1) {
    const [a, b] = [re[place] / size, -im[place] / size];
    outReal[place] = a * chirp.real[place] - b * chirp.imaginary[place];
    outImaginary[place] = a * chirp.imaginary[place] + b * chirp.real[place];
  }
  return [outReal, outImaginary];
}

const prepared = new Map(); // by length; a recording needs two or four

function bluestein(length) {
  if (prepared.has(length)) return prepared.get(length);
  const size = 2 ** Math.ceil(Math.log2(2 * length));
  const transform = fourier(size);
  const chirp = {real: new Float64Array(length), imaginary: new Float64Array(length)};
  const kernel = {real: new Float64Array(size), imaginary: new Float64Array(size)};
  for (let place = 0; place < length; place += 1) {
    const angle = Math.PI * (place * place % (2 * length)) / length; // a multiple of a turn less keeps the digits
    chirp.real[place] = kernel.real[place] = Math.cos(angle);
    chirp.imaginary[place] = -Math.sin(angle);
    kernel.imaginary[place] = Math.sin(angle);
    if (place) {
      kernel.real[size - place] = kernel.real[place];
      kernel.imaginary[size - place] = kernel.imaginary[place];
    }
  }
  transform(kernel.real, kernel.imaginary);
  if (prepared.size >= 4) prepared.clear();
  prepared.set(length, {size, transform, chirp, kernel});
  return prepared.get(length);
}
