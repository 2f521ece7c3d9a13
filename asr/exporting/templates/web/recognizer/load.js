// The files of an exported model → a recogniser. It runs where onnxruntime-web runs: in a worker of a browser, in Node.

import {Recognizer} from './recognizer.js';

/**
 * Return the recogniser.
 *
 * ort: the module onnxruntime-web; read: a function from a file's name to a promise of its bytes, an ArrayBuffer;
 * threads: number of threads that compute, see `threadsFor`.
 */
export async function load(ort, read, threads = () => 1) {
  const description = JSON.parse(new TextDecoder().decode(await read('model.json')));
  const acoustic = await read('model.onnx');
  ort.env.wasm.numThreads = threads(acoustic.byteLength);
  return new Recognizer({
    description,
    acoustic: await network(ort, acoustic),
    detector: await network(ort, await read('speech_detector.onnx')),
  });
}

/** Return a function that runs a network: tensors {name: {data, dims}} → tensors by name. All hold float32. */
async function network(ort, bytes) {
  const session = await ort.InferenceSession.create(new Uint8Array(bytes), {executionProviders: ['wasm']});
  return (tensors) => session.run(Object.fromEntries(
    Object.entries(tensors).map(([name, {data, dims}]) => [name, new ort.Tensor('float32', data, dims)])));
}
