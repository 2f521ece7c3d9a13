// Samples → words with times and confidences, by an exported model; the way of asr/runtime/recognizer.py.
//
//   const recognizer = await load(ort, read); // load.js
//   for await (const {words, heardS} of recognizer.transcribe(samples)) …
//   const stream = recognizer.stream(rateHz);
//   for (const {text, words} of await stream.hear(block)) …   // of the utterances that have ended
//   const text = await stream.soFar();                       // of the one that has not
//
// `acoustic` and `detector` are functions that run a network: tensors {name: {data, dims}} → tensors by name.

import {align, greedySearch} from './align.js';
import {FourierResampler, joined, SincResampler} from './resample.js';
import {segments, Segmenter, speechExtent, STREAM_RULE} from './segments.js';
import {RATE_HZ, SpeechDetector} from './speech_detector.js';
import {decode, tokenTexts, toWords} from './words.js';

const PIECE_S = 0.1; // streams are heard in pieces of this length
const AGAIN_S = 0.5; // the open segment of a stream is heard again after as much new audio

export class Recognizer {
  /**
   * description: the content of model.json; acoustic, detector: networks; search: log-posteriors → hypotheses, best
   * first.
   */
  constructor({description, acoustic, detector, search}) {
    this.rateHz = description.sample_rate_hz;
    this.acoustic = acoustic;
    this.detector = detector;
    this.search = search;
    this.known = {
      texts: tokenTexts(description),
      frameShiftS: description.frame_shift_s,
      calibration: description.calibration,
    };
  }

  /** Return the log-posteriors {data, frames, size} of samples at the model's rate. */
  async logPosteriors(samples) {
    const {log_posteriors: result} = await this.acoustic({waveform: {data: samples, dims: [samples.length]}});
    const [frames, size] = result.dims;
    return {data: result.data, frames, size};
  }

  /**
   * Yield the words of each segment of a whole recording, and how many seconds have been looked at by then.
   *
   * samples: Float32Array, mono, at the model's rate, see `resampled`.
   */
  async* transcribe(samples) {
    const detector = new SpeechDetector(this.detector, new FourierResampler(this.rateHz, RATE_HZ));
    for await (const segment of segments(samples, this.rateHz, detector)) {
      yield {words: await this.words(segment), heardS: segment.heard / this.rateHz};
    }
  }

  /** Return a whole recording at the model's rate. */
  resampled(samples, rateHz) {
    return new FourierResampler(rateHz, this.rateHz).hear(samples, true);
  }

  /** Return what listens to audio of a rate that is still arriving. */
  stream(rateHz) {
    return new Stream(this, rateHz);
  }

  async words({start, waveform}) {
    const logPosteriors = await this.logPosteriors(waveform);
    const hypotheses = this.search(logPosteriors);
    const spans = align(logPosteriors, hypotheses[0].tokens);
    return toWords(hypotheses, spans, speechExtent(waveform, this.rateHz), this.known, start / this.rateHz);
  }
}

/** Audio that is still arriving → what has been said; `Listening` in asr/decoding/streaming.py explains it. */
class Stream {
  constructor(recognizer, rateHz) {
    this.recognizer = recognizer;
    this.resampler = new SincResampler(rateHz, recognizer.rateHz);
    const detector = new SpeechDetector(recognizer.detector, new SincResampler(recognizer.rateHz, RATE_HZ));
    this.segmenter = new Segmenter(recognizer.rateHz, STREAM_RULE, detector);
    this.piece = Math.round(PIECE_S * rateHz);
    this.waiting = new Float32Array(0); // less than a piece
    this.shown = '';
    this.heard = 0; // samples of the open segment, at the last time
  }

  /** Return {text, words} of the utterances that have ended by now and had not before. */
  async hear(block, last = false) {
    this.waiting = joined([this.waiting, block]);
    const ended = [];
    while (this.waiting.length >= this.piece) {
      ended.push(...await this.segmenter.hear(this.resampler.hear(this.waiting.slice(0, this.piece))));
      this.waiting = this.waiting.slice(this.piece);
    }
    if (last) {
      ended.push(...await this.segmenter.hear(this.resampler.hear(this.waiting)));
      ended.push(...await this.segmenter.hear(this.resampler.hear(new Float32Array(0), true), true));
    }
    const finals = [];
    for (const segment of ended) {
      const words = await this.recognizer.words(segment);
      if (words.length || this.shown) finals.push({text: joinedText(words), words});
      this.shown = '';
      this.heard = 0;
    }
    return finals;
  }

  /** Return what is said by now in the utterance that has not ended; null if nothing new is known of it. */
  async soFar() {
    const text = await this.openText();
    if (text === this.shown) return null;
    this.shown = text;
    return text;
  }

  async openText() {
    const {open} = this.segmenter;
    if (!open) return '';
    if (open.waveform.length - this.heard < AGAIN_S * this.recognizer.rateHz) return this.shown;
    this.heard = open.waveform.length;
    return decode(greedySearch(await this.recognizer.logPosteriors(open.waveform)).tokens, this.recognizer.known.texts);
  }
}

/** Return the text of words, with a space before each that has one; none at the start. */
export function joinedText(words) {
  return words.map((word) => word.space_before ? ` ${word.text}` : word.text).join('').replace(/^ /, '');
}
