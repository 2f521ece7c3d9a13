'use strict';
// A player of one recording at a time, and a view of what it plays. It needs element.js, fourier.js and spectrogram.js
// before it.
//
// How a page uses it:
//   const player = new Player();                      // one for the page
//   await player.open(bytes);                         // an ArrayBuffer: a whole sound file that the browser can decode.
//                                                     // The buffer is used up; false: another was opened meanwhile
//   player.play(startS, endS); player.pause(); player.toggle(); player.seek(seconds);
//   player.samples, .rateHz, .durationS, .positionS, .playing, .part ([startS, endS] of what is or was played)
//   player.addEventListener('change', …);             // it began, it stopped, it moved: each frame while it plays
//   bytesOfBase64(text) → ArrayBuffer
//
//   const view = new SoundView(player);               // waveform, log-mel, a button, a position; view.element is its place
//   view.showPosteriors(tracks, blank, frameShiftS);  // adds the posteriors, see drawPosteriors in spectrogram.js
//   view.secondsAt(event)                             // the time below the mouse, for pages that mark places
//   view.remove();                                    // takes it away; the player may then get another view

const SAMPLE_RATE_HZ = 16000; // at which recordings are decoded

/** Return the bytes that a base64 text stands for. */
function bytesOfBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}

class Player extends EventTarget {
  constructor() {
    super();
    this.part = [0, 0];
    this.close();
  }

  /** Forget the recording. */
  close() {
    this.pause();
    this.opened = (this.opened ?? 0) + 1;
    this.buffer = null;
    this.samples = new Float32Array(0);
    this.stoppedS = 0;
  }

  /** Decode a sound file; return whether it is the one that is open now. The browser refuses what is no sound. */
  async open(bytes) {
    this.close();
    const ticket = this.opened;
    const buffer = await new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ).decodeAudioData(bytes);
    if (ticket !== this.opened) return false;
    this.buffer = buffer;
    this.samples = mixedDown(buffer);
    this.changed();
    return true;
  }

  get rateHz() {
    return SAMPLE_RATE_HZ;
  }

  get durationS() {
    return this.buffer ? this.buffer.duration : 0;
  }

  get playing() {
    return Boolean(this.node);
  }

  /** Where it plays, or where it would begin to. */
  get positionS() {
    if (!this.node) return this.stoppedS;
    return Math.min(this.part[0] + this.context.currentTime - this.begunS, this.part[1]);
  }

  /** Play from one time to another, to the sample; at its end it is where it began, ready to be heard again. */
  play(startS = 0, endS = this.durationS) {
    if (!this.buffer) return;
    this.pause();
    this.context ??= new AudioContext(); // browsers allow it after the first click or key only
    this.context.resume();
    this.part = [Math.max(0, startS), Math.min(endS, this.durationS)];
    const node = new AudioBufferSourceNode(this.context, {buffer: this.buffer});
    node.connect(this.context.destination);
    node.addEventListener('ended', () => this.ended(node));
    this.begunS = this.context.currentTime;
    node.start(0, this.part[0], Math.max(0, this.part[1] - this.part[0]));
    this.node = node;
    this.follow();
  }

  pause() {
    if (!this.node) return;
    this.stoppedS = this.positionS;
    const node = this.node;
    this.node = null;
    node.stop();
    this.changed();
  }

  /** Pause, or play on from where it is. */
  toggle() {
    if (this.playing) this.pause();
    else this.play(this.stoppedS < this.durationS - 0.01 ? this.stoppedS : 0);
  }

  /** Move to a time; if it plays, it plays on from there. */
  seek(seconds) {
    const wasPlaying = this.playing;
    this.pause();
    this.stoppedS = Math.min(Math.max(seconds, 0), this.durationS);
    if (wasPlaying) this.play(this.stoppedS);
    this.changed();
  }

  ended(node) {
    if (node !== this.node) return; // it was paused
    this.node = null;
    this.stoppedS = this.part[1] < this.durationS - 0.01 ? this.part[0] : 0;
    this.changed();
  }

  follow() {
    this.changed();
    if (this.playing) requestAnimationFrame(() => this.follow());
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }
}

/** Return the mean of a buffer's channels. */
function mixedDown(buffer) {
  const channels = Array.from({length: buffer.numberOfChannels}, (_, channel) => buffer.getChannelData(channel));
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, place) => channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length);
}

class SoundView {
  constructor(player) {
    this.player = player;
    this.playhead = element('div', {class: 'playhead'});
    this.marked = element('div', {class: 'marked', hidden: true});
    this.waveform = element('canvas', {class: 'waveform', role: 'img', 'aria-label': 'Waveform'});
    this.spectrogram = element('canvas', {class: 'logmel', role: 'img', 'aria-label': 'Log-mel spectrogram'});
    this.pictures = element('div', {class: 'pictures'}, this.waveform, this.spectrogram, this.marked, this.playhead);
    this.button = element('button', {class: 'play', type: 'button'}, 'Play');
    this.slider = element('input', {type: 'range', min: 0, step: 0.01, value: 0, 'aria-label': 'Position in seconds'});
    this.clock = element('span', {class: 'clock'});
    const controls = element('div', {class: 'controls'}, this.button, this.slider, this.clock);
    this.element = element('div', {class: 'sound'}, this.pictures, controls);
    this.listen();
    this.follow();
  }

  listen() {
    this.follows = () => this.follow();
    this.redraws = () => this.draw();
    this.player.addEventListener('change', this.follows);
    this.button.addEventListener('click', () => this.player.toggle());
    this.slider.addEventListener('input', () => this.player.seek(Number(this.slider.value)));
    this.pictures.addEventListener('click', (event) => this.player.play(this.secondsAt(event)));
    this.sized = new ResizeObserver(this.redraws);
    this.sized.observe(this.pictures);
    this.dark = window.matchMedia('(prefers-color-scheme: dark)');
    this.dark.addEventListener('change', this.redraws);
  }

  /** Return the time in seconds below the mouse. */
  secondsAt(event) {
    const box = this.pictures.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * this.player.durationS;
  }

  showPosteriors(tracks, blank, frameShiftS) {
    const named = tracks.map(({text, points}) => `${text} ${Math.round(100 * Math.max(...points.map((p) => p[1])))} %`);
    const label = `Posteriors of the tokens, with the highest of each: ${named.join(', ')}`;
    const canvas = element('canvas', {class: 'posteriors', role: 'img', 'aria-label': label});
    this.posteriors = {canvas, tracks, blank, frameShiftS};
    this.spectrogram.after(canvas);
  }

  draw() {
    if (!this.player.durationS || !this.pictures.clientWidth) return;
    drawWaveform(this.waveform, this.player.samples);
    if (this.drawnOf !== this.player.samples) {
      this.mel = logMel(this.player.samples, this.player.rateHz);
      this.drawnOf = this.player.samples;
    }
    drawLogMel(this.spectrogram, this.mel);
    if (this.posteriors) {
      const {canvas, tracks, blank, frameShiftS} = this.posteriors;
      drawPosteriors(canvas, tracks, blank, this.player.durationS, frameShiftS);
    }
  }

  /** Show where the player is. */
  follow() {
    const {durationS, positionS, playing} = this.player;
    if (this.player.samples !== this.drawnOf) this.draw();
    this.button.textContent = playing ? 'Pause' : 'Play';
    this.button.disabled = this.slider.disabled = !durationS;
    this.slider.max = durationS;
    this.slider.value = positionS;
    this.clock.textContent = `${positionS.toFixed(2)} / ${durationS.toFixed(2)} s`;
    const share = (seconds) => `${100 * seconds / (durationS || 1)}%`;
    this.playhead.style.left = share(positionS);
    const [startS, endS] = this.player.part;
    this.marked.hidden = !playing || endS - startS > durationS - 0.01;
    this.marked.style.left = share(startS);
    this.marked.style.width = share(endS - startS);
  }

  remove() {
    this.player.removeEventListener('change', this.follows);
    this.dark.removeEventListener('change', this.redraws);
    this.sized.disconnect();
    this.element.remove();
  }
}
