// How fast a web export transcribes here: `node benchmarks/browser.mjs FOLDER FILE.wav…`, after `npm install` in FOLDER.
// Node runs the same WebAssembly as a browser, with one thread.

import {readFileSync} from 'node:fs';
import {cpus} from 'node:os';
import {join, resolve} from 'node:path';
import {pathToFileURL} from 'node:url';

const [folder, ...paths] = process.argv.slice(2);
const module = (name) => import(pathToFileURL(join(resolve(folder), name)));
const bytesOf = (path) => new Uint8Array(readFileSync(path)).buffer;

const ort = await module('node_modules/onnxruntime-web/dist/ort.wasm.min.mjs');
const {load} = await module('recognizer/load.js');
const {readWav} = await module('recognizer/wav.js');

const loadedFrom = performance.now();
const recognizer = await load(ort, async (name) => bytesOf(join(folder, 'model', name)));
console.log(`${cpus()[0].model}, Node ${process.version}; loaded in ${((performance.now() - loadedFrom) / 1000).toFixed(2)} s`);

async function transcribe({samples, rateHz}) {
  let words = 0;
  for await (const found of recognizer.transcribe(recognizer.resampled(samples, rateHz))) words += found.words.length;
  return words;
}

const recordings = paths.map((path) => readWav(bytesOf(path)));
await transcribe(recordings[0]); // the first time is slower
let [audioS, computedS, words] = [0, 0, 0];
for (const recording of recordings) {
  const begun = performance.now();
  words += await transcribe(recording);
  computedS += (performance.now() - begun) / 1000;
  audioS += recording.samples.length / recording.rateHz;
}
console.log(`${audioS.toFixed(1)} s of audio, ${words} words, ${computedS.toFixed(2)} s: ${(audioS / computedS).toFixed(1)} × real time`);
process.exit(0);
