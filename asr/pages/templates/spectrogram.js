'use strict';
// Samples → pictures of sound on a canvas: waveform, log-mel, posteriors. Nothing is fetched, nothing is stored.
//
// How a page uses it (all pictures span the whole width of their canvas, so their times agree):
//   drawWaveform(canvas, samples)              samples: Float32Array, mono, from -1 to 1
//   drawLogMel(canvas, logMel(samples, rateHz))
//   drawPosteriors(canvas, tracks, blank, durationS, frameShiftS)
//     tracks: [{text, points: [[frame, probability], …]}, …], one for each token but the blank; blank: its points
//   logMel(samples, rateHz, {windowMs, hopMs, bins}) → {frames, bins, values}; values[frame * bins + bin], natural log
//
// It needs fourier.js before it. A canvas is drawn at the size that its style gives it. `SoundView` in player.js draws all of them.

// As in the package's own features: a band's energy, relative to the mean over the utterance, counts at least FLOOR.
const FLOOR = 3e-4;
const QUIETEST = 1e-8;

/** Return a frequency in Hz on the Slaney mel scale: linear below 1 kHz, logarithmic above. */
function melOfHz(hz) {
  return hz < 1000 ? hz * 3 / 200 : 15 + 27 * Math.log(hz / 1000) / Math.log(6.4);
}

function hzOfMel(mel) {
  return mel < 15 ? mel * 200 / 3 : 1000 * Math.exp((mel - 15) * Math.log(6.4) / 27);
}

/** Return triangular filters of equal area on the Slaney scale: [{first, weights}, …], `first` an FFT bin. */
function melFilters(rateHz, fftSize, bins) {
  const highest = melOfHz(rateHz / 2);
  const corners = Array.from({length: bins + 2}, (_, place) => hzOfMel(highest * place / (bins + 1)));
  return Array.from({length: bins}, (_, bin) => {
    const [low, middle, high] = corners.slice(bin, bin + 3);
    const first = Math.ceil(low * fftSize / rateHz);
    const weights = [];
    for (let place = first; place <= fftSize / 2 && place * rateHz / fftSize < high; place += 1) {
      const hz = place * rateHz / fftSize;
      const height = Math.min((hz - low) / (middle - low), (high - hz) / (high - middle));
      weights.push(Math.max(0, height) * 2 / (high - low));
    }
    return {first, weights};
  });
}

/**
 * Return the log-mel features of samples as the network computes them, before normalisation (`LogMel` in
 * asr/model/logmel.py): Hann window, power spectrum without the frame's mean, Slaney filters, relative to the level.
 * Frame i is centred on sample i · hop. Beyond both ends the signal stays as its first or last sample.
 */
function logMel(samples, rateHz, {windowMs = 25, hopMs = 10, bins = 80} = {}) {
  const windowSize = Math.round(windowMs * rateHz / 1000);
  const hop = Math.round(hopMs * rateHz / 1000);
  const fftSize = 2 ** Math.ceil(Math.log2(windowSize));
  const frames = Math.floor(samples.length / hop) + 1;
  const left = Math.floor((fftSize - windowSize) / 2);
  const window = Float64Array.from({length: windowSize}, (_, place) => Math.sin(Math.PI * place / windowSize) ** 2);
  const windowSum = window.reduce((sum, weight) => sum + weight, 0);
  const filters = melFilters(rateHz, fftSize, bins);
  const transform = fourier(fftSize);
  const [real, imaginary] = [new Float64Array(fftSize), new Float64Array(fftSize)];
  const values = new Float32Array(frames * bins);
  const last = samples.length - 1;
  let total = 0;
  for (let frame = 0; frame < frames; frame += 1) {
    const start = frame * hop - fftSize / 2 + left;
    const sampleAt = (place) => last < 0 ? 0 : samples[Math.min(Math.max(start + place, 0), last)];
    let mean = 0;
    for (let place = 0; place < windowSize; place += 1) mean += window[place] * sampleAt(place) / windowSum;
    real.fill(0);
    imaginary.fill(0);
    for (let place = 0; place < windowSize; place += 1) {
      real[left + place] = window[place] * (sampleAt(place) - mean);
    }
    transform(real, imaginary);
    filters.forEach(({first, weights}, bin) => {
      let energy = 0;
      weights.forEach((weight, place) => {
        energy += weight * (real[first + place] ** 2 + imaginary[first + place] ** 2);
      });
      values[frame * bins + bin] = energy;
      total += energy;
    });
  }
  const level = Math.max(total / values.length, QUIETEST);
  return {frames, bins, values: values.map((energy) => Math.log(Math.max(energy / level, FLOOR)))};
}

/** Return a canvas's drawing context, its pixels as many as the screen has, and its size in CSS pixels. */
function preparedCanvas(canvas) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext('2d');
  return {context, width: canvas.width, height: canvas.height, scale};
}

/** Draw the highest and the lowest sample of each column of pixels, in the text colour of the canvas. */
function drawWaveform(canvas, samples) {
  const {context, width, height} = preparedCanvas(canvas);
  context.fillStyle = getComputedStyle(canvas).color;
  let loudest = 0.05; // silence stays thin
  for (const sample of samples) loudest = Math.max(loudest, Math.abs(sample));
  for (let column = 0; column < width; column += 1) {
    const end = Math.max(Math.ceil((column + 1) * samples.length / width), 1);
    let [low, high] = [0, 0];
    for (let place = Math.floor(column * samples.length / width); place < end; place += 1) {
      low = Math.min(low, samples[place] || 0);
      high = Math.max(high, samples[place] || 0);
    }
    const top = (1 - high / loudest) * height / 2;
    context.fillRect(column, top, 1, Math.max(1, (high - low) / loudest * height / 2));
  }
}

// matplotlib's "magma" at nine places, dark to light.
const MAGMA = [
  [0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135],
  [252, 253, 191],
];

/** Return the red, green and blue of a share from 0 to 1. */
function magma(share) {
  const place = Math.min(Math.max(share, 0), 1) * (MAGMA.length - 1);
  const before = Math.min(Math.floor(place), MAGMA.length - 2);
  return MAGMA[before].map((dark, channel) => dark + (place - before) * (MAGMA[before + 1][channel] - dark));
}

/** Draw what `logMel` returned, low frequencies at the bottom. */
function drawLogMel(canvas, mel) {
  const {context, width, height} = preparedCanvas(canvas);
  const lowest = Math.log(FLOOR);
  const highest = mel.values.reduce((most, value) => Math.max(most, value), lowest + 1);
  const colours = Array.from({length: 256}, (_, place) => magma(place / 255));
  const picture = new ImageData(mel.frames, mel.bins);
  for (let frame = 0; frame < mel.frames; frame += 1) {
    for (let bin = 0; bin < mel.bins; bin += 1) {
      const share = (mel.values[frame * mel.bins + bin] - lowest) / (highest - lowest);
      const pixel = ((mel.bins - 1 - bin) * mel.frames + frame) * 4;
      picture.data.set(colours[Math.round(255 * share)], pixel);
      picture.data[pixel + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(mel.frames, mel.bins);
  small.getContext('2d').putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = mel.frames < width; // wider than it is: soft, not blocks
  context.drawImage(small, 0, 0, width, height);
}

// Colours that differ on white and on black.
const TRACK_COLOURS = ['#4878cf', '#d07020', '#3a9a50', '#c04848', '#8a60c0', '#9a7048', '#c060a8', '#2a98a8'];
const NAMED_PROBABILITY = 0.1; // a lower peak has no room for its name
const NAME_PX = 12;

/**
 * Draw each token's probability over time as a hill with the token's text above its peak, and the blank's as a line.
 *
 * Frame i is centred on i · frameShiftS. Source of the picture: Graves et al. 2006, "Connectionist temporal
 * classification", figure 1.
 */
function drawPosteriors(canvas, tracks, blank, durationS, frameShiftS) {
  const {context, width, height, scale} = preparedCanvas(canvas);
  const top = (NAME_PX + 4) * scale;
  const across = (frame) => frame * frameShiftS / durationS * width;
  const up = (probability) => height - probability * (height - top);
  context.strokeStyle = getComputedStyle(canvas).color;
  context.globalAlpha = 0.35;
  tracePosteriors(context, blank, across, up);
  context.stroke();
  context.font = `${NAME_PX * scale}px system-ui, sans-serif`;
  context.textAlign = 'center';
  tracks.forEach((track, place) => {
    context.fillStyle = TRACK_COLOURS[place % TRACK_COLOURS.length];
    context.globalAlpha = 0.75;
    tracePosteriors(context, track.points, across, up);
    context.fill();
    context.globalAlpha = 1;
    for (const [frame, probability] of peaks(track.points)) {
      if (probability >= NAMED_PROBABILITY) context.fillText(track.text, across(frame), up(probability) - 3 * scale);
    }
  });
}

/** Begin a path through points; a frame that is not among them has probability 0. */
function tracePosteriors(context, points, across, up) {
  context.beginPath();
  points.forEach(([frame, probability], place) => {
    const begins = place === 0 || points[place - 1][0] < frame - 1;
    const ends = place === points.length - 1 || points[place + 1][0] > frame + 1;
    if (begins) context.moveTo(across(frame - 1), up(0));
    context.lineTo(across(frame), up(probability));
    if (ends) context.lineTo(across(frame + 1), up(0));
  });
}

/** Return the points that are no lower than both neighbours; of equal neighbours the first. */
function peaks(points) {
  const probabilityAt = (place, frame) => points[place]?.[0] === frame ? points[place][1] : 0;
  return points.filter(([frame, probability], place) =>
    probability > probabilityAt(place - 1, frame - 1) && probability >= probabilityAt(place + 1, frame + 1));
}
