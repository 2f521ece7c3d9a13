'use strict';
// The microphone's samples, as they arrive, to the page: Float32Array blocks of about a tenth of a second.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.running = true;
    this.port.onmessage = () => this.end();
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.block[this.filled] = sample;
      this.filled += 1;
      if (this.filled === this.block.length) this.send();
    }
    return this.running;
  }

  send() {
    this.port.postMessage(this.block.slice(0, this.filled));
    this.filled = 0;
  }

  /** Send what is left, and an empty block as the last one. */
  end() {
    this.send();
    if (this.running) this.port.postMessage(new Float32Array(0));
    this.running = false;
  }
}

registerProcessor('recorder', Recorder);
