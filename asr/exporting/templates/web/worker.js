// The recogniser, beside the page, so that the page answers while it computes.
//
// The page sends                                       The worker answers
//   {kind: 'load'}                                       {kind: 'loaded', rateHz} or {kind: 'failed', reason}
//   {kind: 'read', bytes}                                {kind: 'samples', samples, rateHz} or {kind: 'unread'}
//   {kind: 'transcribe', samples, rateHz}                {kind: 'words', words, heardS} for each segment
//                                                        {kind: 'done', durationS}
//   {kind: 'listen', rateHz}                             {kind: 'done'}: a stream begins
//   {kind: 'block', samples} or {kind: 'end'}            {kind: 'words', words} of each utterance that has ended
//                                                        {kind: 'partial', text} of the one that has not, if it is new
//                                                        {kind: 'done', durationS}
// All carry `job`, a number that the answers carry too. Messages are answered one after the other.

import * as ort from './node_modules/onnxruntime-web/dist/ort.wasm.min.mjs';
import {load} from './recognizer/load.js';
import {readWav} from './recognizer/wav.js';

const LARGE_BYTES = 50e6; // a network from here on gains by several threads; smaller ones do not
const MOST_THREADS = 8;

let recognizer = null;
let stream = null;
let streamHz = 0;
let heard = 0; // samples of the stream
let waiting = 0; // messages
let before = Promise.resolve();

self.addEventListener('message', ({data}) => {
  waiting += 1;
  before = before.then(() => answer(data)).catch((error) => {
    self.postMessage({kind: 'failed', job: data.job, reason: String(error?.message ?? error)});
  });
});

function answer(message) {
  waiting -= 1;
  const reply = (content) => self.postMessage({job: message.job, ...content});
  return ANSWERS[message.kind](message, reply);
}

const ANSWERS = {
  async load(_, reply) {
    recognizer = await load(ort, read, threads);
    reply({kind: 'loaded', rateHz: recognizer.rateHz});
  },

  read({bytes}, reply) {
    const wav = readWav(bytes);
    reply(wav ? {kind: 'samples', ...wav} : {kind: 'unread'});
  },

  async transcribe({samples, rateHz}, reply) {
    const resampled = recognizer.resampled(samples, rateHz);
    for await (const found of recognizer.transcribe(resampled)) reply({kind: 'words', ...found});
    reply({kind: 'done', durationS: resampled.length / recognizer.rateHz});
  },

  listen({rateHz}, reply) {
    stream = recognizer.stream(rateHz);
    [streamHz, heard] = [rateHz, 0];
    reply({kind: 'done'});
  },

  async block({samples}, reply) {
    heard += samples.length;
    for (const {words} of await stream.hear(samples)) reply({kind: 'words', words});
    const text = waiting ? null : await stream.soFar(); // where more audio waits, it is heard first
    if (text !== null) reply({kind: 'partial', text});
    reply({kind: 'done', durationS: heard / streamHz});
  },

  async end(_, reply) {
    for (const {words} of await stream.hear(new Float32Array(0), true)) reply({kind: 'words', words});
    reply({kind: 'done', durationS: heard / streamHz});
  },
};

async function read(name) {
  const answered = await fetch(new URL(`model/${name}`, import.meta.url));
  if (!answered.ok) throw new Error(`${answered.url}: ${answered.status} ${answered.statusText}`);
  return answered.arrayBuffer();
}

/** Return how many threads compute a network of this size. More than one needs a page that is isolated from others. */
function threads(bytes) {
  if (!self.crossOriginIsolated || bytes < LARGE_BYTES) return 1;
  return Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
}
