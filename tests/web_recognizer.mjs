// Runs the recogniser of a web export in Node: `node web_recognizer.mjs FOLDER < requests.json > answers.json`.
// A request is {kind, …}, see ANSWERS; the folder has onnxruntime-web in node_modules.

import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import {gunzipSync} from 'node:zlib';

const folder = process.argv[2];
const module = (name) => import(pathToFileURL(join(folder, name)));
const bytesOf = (path) => new Uint8Array(readFileSync(path)).buffer;

const ort = await module('node_modules/onnxruntime-web/dist/ort.wasm.min.mjs');
const {beamSearch} = await module('recognizer/beam.js');
const {load} = await module('recognizer/load.js');
const {readArpa, TokenNgram} = await module('recognizer/ngram.js');
const resamplers = await module('recognizer/resample.js');
const {FILE_RULE, STREAM_RULE, segments, Segmenter, speechExtent} = await module('recognizer/segments.js');
const {RATE_HZ, SpeechDetector} = await module('recognizer/speech_detector.js');
const {toSrt, toTxt, toVtt} = await module('recognizer/subtitles.js');
const {wordsOf} = await module('recognizer/units.js');
const {readWav} = await module('recognizer/wav.js');

const recognizer = await load(ort, async (name) => bytesOf(join(folder, 'model', name)));

function samplesOf({path}) {
  const wav = readWav(bytesOf(path));
  return wav && recognizer.resampled(wav.samples, wav.rateHz);
}

const ANSWERS = {
  /** {path}: a WAV file. */
  read({path}) {
    const wav = readWav(bytesOf(path));
    return wav && {rate_hz: wav.rateHz, samples: [...wav.samples]};
  },

  /** {path, way, from_hz, to_hz, block}: samples in 32-bit floats, resampled in blocks of this length. */
  resample({path, way, from_hz: fromHz, to_hz: toHz, block}) {
    const samples = new Float32Array(bytesOf(path));
    const resampler = new resamplers[way](fromHz, toHz);
    const known = [];
    for (let start = 0; start < samples.length; start += block) {
      known.push(resampler.hear(samples.subarray(start, start + block)));
    }
    return [...resamplers.joined([...known, resampler.hear(new Float32Array(0), true)])];
  },

  /** {path}: → [{start, length, speech}, …] */
  async segments(request) {
    const found = [];
    const detector = new SpeechDetector(recognizer.detector, new resamplers.FourierResampler(recognizer.rateHz, RATE_HZ));
    for await (const {start, waveform} of segments(samplesOf(request), recognizer.rateHz, detector)) {
      found.push({start, length: waveform.length, speech: speechExtent(waveform, recognizer.rateHz)});
    }
    return found;
  },

  /** {path, rate_hz, rule, loud}: windows count as speech where their loudest sample is above 0.1, at any rate. */
  async cut({path, rate_hz: rateHz, rule, block}) {
    const samples = new Float32Array(bytesOf(path));
    const window = Math.round(0.032 * rateHz);
    let rest = [];
    const hear = async (heard, last) => {
      rest.push(...heard);
      if (last) while (rest.length % window) rest.push(0);
      const found = [];
      for (; rest.length >= window; rest = rest.slice(window)) {
        found.push(Math.max(...rest.slice(0, window).map(Math.abs)) > 0.1 ? 1 : 0);
      }
      return found;
    };
    const segmenter = new Segmenter(rateHz, rule === 'file' ? FILE_RULE : STREAM_RULE, {hear});
    const found = [];
    for (let start = 0; start < samples.length; start += block) {
      found.push(...await segmenter.hear(samples.subarray(start, start + block)));
    }
    found.push(...await segmenter.hear(new Float32Array(0), true));
    return found.map(({start, waveform}) => ({start, length: waveform.length}));
  },

  /** {path}: of the whole recording, uncut → [frame][token] */
  async log_posteriors(request) {
    const {data, frames, size} = await recognizer.logPosteriors(samplesOf(request));
    return Array.from({length: frames}, (_, frame) => [...data.subarray(frame * size, (frame + 1) * size)]);
  },

  /** {path, size, options, arpa}: log-posteriors in 32-bit floats → hypotheses; no options: by the model's own search. */
  search({path, size, options, arpa}) {
    const data = new Float32Array(bytesOf(path));
    const logPosteriors = {data, frames: data.length / size, size};
    if (!options) return recognizer.search(logPosteriors);
    const tokens = JSON.parse(readFileSync(join(folder, 'model', 'model.json'), 'utf-8')).tokens;
    const scorer = arpa && new TokenNgram(readArpa(gunzipSync(readFileSync(arpa)).toString()), tokens);
    return beamSearch(logPosteriors, options, scorer, tokens);
  },

  /** {path}: → {words, txt, srt, vtt} */
  async transcribe(request) {
    const words = [];
    for await (const found of recognizer.transcribe(samplesOf(request))) words.push(...found.words);
    return written(words);
  },

  /** {path, block}: the results of a stream that arrives in blocks of so many samples: [text, is it final]. */
  async stream({path, block}) {
    const {samples, rateHz} = readWav(bytesOf(path));
    const stream = recognizer.stream(rateHz);
    const found = [];
    for (let start = 0; start < samples.length; start += block) {
      found.push(...(await stream.hear(samples.subarray(start, start + block))).map(({text}) => [text, true]));
      const text = await stream.soFar();
      if (text !== null) found.push([text, false]);
    }
    return [...found, ...(await stream.hear(new Float32Array(0), true)).map(({text}) => [text, true])];
  },

  /** {words}: → {words, txt, srt, vtt} */
  write: ({words}) => written(words.map((word) => ({space_before: true, ...word}))),

  /** {text}: → its words */
  units: ({text}) => wordsOf(text),
};

function written(words) {
  return {words, txt: toTxt(words), srt: toSrt(words), vtt: toVtt(words)};
}

const answers = [];
for (const request of JSON.parse(readFileSync(0, 'utf-8'))) answers.push(await ANSWERS[request.kind](request));
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
