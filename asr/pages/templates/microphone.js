'use strict';
// Runs beside the page, where the browser processes sound. It gives the page a tenth of a second at a time: 16-bit
// samples of one channel, and how loud the loudest of them is, 0 to 1. The message 'end' asks for the rest.

const BLOCK_S = 0.1;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(BLOCK_S * sampleRate)); // sampleRate is a global here
    this.count = 0;
    this.ended = false;
    this.port.onmessage = () => this.end();
  }

  process([input]) {
    for (const sample of mixedDown(input)) {
      this.block[this.count++] = Math.round(Math.max(-1, Math.min(sample, 32767 / 32768)) * 32768);
      if (this.count === this.block.length) this.give();
    }
    return !this.ended;
  }

  give() {
    const samples = this.block.slice(0, this.count);
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) / 32768;
    this.count = 0;
    this.port.postMessage({samples: samples.buffer, loudest}, [samples.buffer]);
  }

  end() {
    this.ended = true;
    this.give();
    this.port.postMessage({ended: true});
  }
}

/** Return the mean of all channels; an input without channels has no samples. */
function mixedDown(channels) {
  if (channels.length < 2) return channels[0] ?? [];
  return channels[0].map((_, place) => channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length);
}

registerProcessor('microphone', Microphone);
