'use strict';
// Real and imaginary parts → their discrete Fourier transform. spectrogram.js needs it before it; `asr export --format web`
// makes a module of it.

/** Return a function that transforms real and imaginary part in place (radix 2, decimation in time). */
function fourier(size) {
  const cosines = Float64Array.from({length: size / 2}, (_, place) => Math.cos(2 * Math.PI * place / size));
  const sines = Float64Array.from({length: size / 2}, (_, place) => -Math.sin(2 * Math.PI * place / size));
  return (real, imaginary) => {
    for (let place = 1, other = 0; place < size; place += 1) {
      let bit = size >> 1;
      for (; other & bit; bit >>= 1) other ^= bit;
      other ^= bit;
      if (place < other) {
        [real[place], real[other]] = [real[other], real[place]];
        [imaginary[place], imaginary[other]] = [imaginary[other], imaginary[place]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let turn = 0; turn < half; turn += 1) {
          const [upper, lower] = [start + turn, start + turn + half];
          const [cosine, sine] = [cosines[turn * step], sines[turn * step]];
          const re = real[lower] * cosine - imaginary[lower] * sine;
          const im = real[lower] * sine + imaginary[lower] * cosine;
          real[lower] = real[upper] - re;
          imaginary[lower] = imaginary[upper] - im;
          real[upper] += re;
          imaginary[upper] += im;
        }
      }
    }
  };
}
