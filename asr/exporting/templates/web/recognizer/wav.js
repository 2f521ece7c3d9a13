// The bytes of a WAV file → its samples, exactly as Python reads them.
//
// The browser's own decoder changes the rate of a recording in a way of its own, and so the last digits of its samples.
// A WAV file with plain samples needs no decoder.

const INTEGERS = 1; // the format's own numbers for how samples are stored
const FLOATS = 3;
const EXTENSIBLE = 0xfffe;
const INVERTED = 0.9; // stereo of two microphones stays far from a correlation of -0.9
const FIRST_SAMPLES = 2048; // of fewer samples a correlation says nothing

/**
 * Return {rateHz, samples}: mono, Float32Array. Return null if the bytes are no WAV file with plain samples.
 *
 * Source: Microsoft, "Multiple channel audio data and WAVE files", which also describes RIFF.
 */
export function readWav(bytes) {
  const view = new DataView(bytes);
  if (bytes.byteLength < 12 || nameAt(view, 0) !== 'RIFF' || nameAt(view, 8) !== 'WAVE') return null;
  let form = null;
  for (let place = 12; place + 8 <= bytes.byteLength;) {
    const [name, size] = [nameAt(view, place), view.getUint32(place + 4, true)];
    const start = place + 8;
    if (name === 'fmt ' && start + 16 <= bytes.byteLength) form = formAt(view, start, size);
    if (name === 'data') return form && readSamples(view, start, size, form);
    place = start + size + size % 2;
  }
  return null;
}

function nameAt(view, place) {
  return String.fromCharCode(...new Uint8Array(view.buffer, place, 4));
}

function formAt(view, start, size) {
  const kind = view.getUint16(start, true);
  const extensible = kind === EXTENSIBLE && size >= 26 && start + 26 <= view.byteLength;
  return {
    kind: extensible ? view.getUint16(start + 24, true) : kind,
    channels: view.getUint16(start + 2, true),
    rateHz: view.getUint32(start + 4, true),
    frameBytes: view.getUint16(start + 12, true),
    bits: view.getUint16(start + 14, true),
  };
}

function readSamples(view, start, size, {kind, channels, rateHz, frameBytes, bits}) {
  const read = reader(view, kind, bits);
  const bytes = bits / 8;
  if (!read || channels < 1 || rateHz < 1 || frameBytes !== channels * bytes) return null;
  // A recorder that was stopped, or a stream, leaves a size that is too large.
  const frames = Math.floor(Math.min(size, view.byteLength - start) / frameBytes);
  const waveforms = Array.from({length: channels}, (_, channel) =>
    Float32Array.from({length: frames}, (_, frame) => read(start + frame * frameBytes + channel * bytes)));
  return {rateHz, samples: mixed(waveforms)};
}

/** Return a function from a place to the sample there, from -1 to 1; null for samples of another kind. */
function reader(view, kind, bits) {
  if (kind === FLOATS && bits === 32) return (place) => view.getFloat32(place, true);
  if (kind === FLOATS && bits === 64) return (place) => view.getFloat64(place, true);
  if (kind !== INTEGERS) return null;
  if (bits === 8) return (place) => (view.getUint8(place) - 128) / 2 ** 7;
  if (bits === 16) return (place) => view.getInt16(place, true) / 2 ** 15;
  if (bits === 24) return (place) => (view.getInt8(place + 2) * 2 ** 16 + view.getUint16(place, true)) / 2 ** 23;
  if (bits === 32) return (place) => view.getInt32(place, true) / 2 ** 31;
  return null;
}

/**
 * Return the mean of the channels, each Float32Array. Of stereo whose second channel is the inverted first one, the mean
 * is silent; from where that is known, the first channel is taken. See `MixDown` in asr/audio/channels.py.
 */
export function mixed(waveforms) {
  if (waveforms.length === 1) return waveforms[0];
  const mono = Float32Array.from(waveforms[0]);
  for (const waveform of waveforms.slice(1)) {
    for (let place = 0; place < mono.length; place += 1) mono[place] += waveform[place];
  }
  for (let place = 0; place < mono.length; place += 1) mono[place] /= waveforms.length;
  if (waveforms.length === 2) undoInversion(mono, ...waveforms);
  return mono;
}

function undoInversion(mono, left, right) {
  let [powerLeft, powerRight, product] = [0, 0, 0];
  for (let place = 0; place < mono.length; place += 1) {
    powerLeft += left[place] ** 2;
    powerRight += right[place] ** 2;
    product += left[place] * right[place];
    const inverted = product < 0 && product ** 2 > INVERTED ** 2 * powerLeft * powerRight;
    if (inverted && place >= FIRST_SAMPLES) mono[place] = left[place];
  }
}
