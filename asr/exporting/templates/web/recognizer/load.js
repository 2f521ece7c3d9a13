// The files of an exported model → a recogniser. It runs where onnxruntime-web runs: in a worker of a browser, in Node.

import {greedySearch} from './align.js';
import {beamSearch} from './beam.js';
import {readArpa, TokenNgram} from './ngram.js';
import {Recognizer} from './recognizer.js';
import {tokenTexts} from './words.js';

/**
 * Return the recogniser.
 *
 * ort: the module onnxruntime-web; read: a function from a file's name to a promise of its bytes, an ArrayBuffer;
 * threads: number of threads that compute, see `threadsFor`.
 */
export async function load(ort, read, threads = () => 1) {
  const description = JSON.parse(asText(await read('model.json')));
  const acoustic = await read('model.onnx');
  ort.env.wasm.numThreads = threads(acoustic.byteLength);
  return new Recognizer({
    description,
    acoustic: await network(ort, acoustic),
    detector: await network(ort, await read('speech_detector.onnx')),
    search: await searchOf(description, read),
  });
}

/** Return log-posteriors → hypotheses: the beam search with the n-gram over tokens if there is one, else the simple one. */
async function searchOf(description, read) {
  const names = JSON.parse(asText(await read('files.json')));
  if (description.search.lm !== 'tokens' || !names.includes('lm.arpa.gz')) {
    return (logPosteriors) => [greedySearch(logPosteriors)];
  }
  const packed = new Blob([await read('lm.arpa.gz')]).stream().pipeThrough(new DecompressionStream('gzip'));
  const scorer = new TokenNgram(readArpa(await new Response(packed).text()), description.tokens);
  const texts = tokenTexts(description);
  return (logPosteriors) => beamSearch(logPosteriors, description.search, scorer, texts);
}

function asText(bytes) {
  return new TextDecoder().decode(bytes);
}

/** Return a function that runs a network: tensors {name: {data, dims}} → tensors by name. All hold float32. */
async function network(ort, bytes) {
  const session = await ort.InferenceSession.create(new Uint8Array(bytes), {executionProviders: ['wasm']});
  return (tensors) => session.run(Object.fromEntries(
    Object.entries(tensors).map(([name, {data, dims}]) => [name, new ort.Tensor('float32', data, dims)])));
}
