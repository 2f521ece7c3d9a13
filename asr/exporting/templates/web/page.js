// The page: files and the microphone → the worker → words that can be heard, and subtitles to download.

import {joined} from './recognizer/resample.js';
import {toSrt, toTxt, toVtt} from './recognizer/subtitles.js';
import {mixed} from './recognizer/wav.js';

const byId = (id) => document.getElementById(id);
const worker = new Worker(new URL('worker.js', import.meta.url), {type: 'module'});
const asked = new Map(); // by job, what takes the answers
let jobs = 0;
let rateHz = 0; // that the model works at
let turn = Promise.resolve(); // recordings are transcribed one after the other
let microphone = null; // while it is open

worker.addEventListener('message', ({data}) => asked.get(data.job)?.(data));
worker.addEventListener('error', (event) => say(`The recogniser does not start: ${event.message ?? 'it cannot be loaded'}`));

/** Send a message to the worker and return the answer that ends it; `take` gets those before. */
function finished(message, take = () => {}, transfer = []) {
  jobs += 1;
  const job = jobs;
  return new Promise((resolve, reject) => {
    asked.set(job, (answer) => {
      if (answer.kind === 'words' || answer.kind === 'partial') return take(answer);
      asked.delete(job);
      return answer.kind === 'failed' ? reject(new Error(answer.reason)) : resolve(answer);
    });
    worker.postMessage({job, ...message}, transfer);
  });
}

function say(text) {
  byId('state').textContent = text;
}

async function start() {
  try {
    ({rateHz} = await finished({kind: 'load'}));
  } catch (error) {
    say(`The model cannot be loaded: ${error.message}`);
    return;
  }
  byId('choose').disabled = byId('record').disabled = false;
  say('Ready.');
  if (!('serviceWorker' in navigator)) return;
  try {
    await navigator.serviceWorker.register('service_worker.js');
    await navigator.serviceWorker.ready;
    say('Ready, also without a network.');
  } catch (error) {
    say(`Ready, but only with a network: ${error.message}`);
  }
}

/** A recording on the page: its sound, its words, what can be saved of it. */
class Recording {
  constructor(name) {
    this.words = [];
    this.name = name;
    this.audio = element('audio', {controls: '', preload: 'metadata', 'aria-label': `The recording ${name}`});
    this.view = new WordsView(this.audio);
    this.facts = element('p', {class: 'facts'}, 'waits…');
    this.progress = element('progress', {max: '1', value: '0', 'aria-label': `Progress of ${name}`});
    const saves = [['Text', 'txt', toTxt], ['SubRip', 'srt', toSrt], ['WebVTT', 'vtt', toVtt]];
    this.saves = element('div', {class: 'saves', hidden: ''}, ...saves.map(([label, suffix, write]) => {
      const button = element('button', {type: 'button'}, `Save ${label}`);
      button.addEventListener('click', () => save(`${name.replace(/\.[^.]*$/, '')}.${suffix}`, write(this.words)));
      return button;
    }));
    const title = element('h2', {}, element('bdi', {}, name));
    byId('recordings').prepend(element('article', {class: 'recording'},
      title, this.facts, this.progress, this.audio, this.view.element, this.saves));
  }

  hearIn(blob) {
    this.audio.src = URL.createObjectURL(blob);
  }

  add(words) {
    this.words.push(...words);
    this.view.add(words);
  }

  done(durationS) {
    const {length} = this.words;
    const sure = length && this.words.reduce((sum, word) => sum + word.confidence, 0) / length;
    const said = length ? `${length} ${length === 1 ? 'word' : 'words'}, confidence ${Math.round(100 * sure)} %` : 'no words';
    this.facts.textContent = `${durationS.toFixed(2)} s, ${said}`;
    this.end();
  }

  fail(reason) {
    this.facts.textContent = `cannot be transcribed: ${reason}`;
    this.end();
  }

  end() {
    this.view.showPartial('');
    this.progress.hidden = true;
    this.saves.hidden = !this.words.length;
  }
}

/** Return a new element; texts become text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function save(name, text) {
  const link = element('a', {href: URL.createObjectURL(new Blob([text], {type: 'text/plain'})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function transcribeFiles(files) {
  for (const file of files) {
    const recording = new Recording(file.name);
    recording.hearIn(file);
    turn = turn.then(() => transcribe(file, recording)).catch((error) => recording.fail(error.message));
  }
}

async function transcribe(file, recording) {
  recording.facts.textContent = 'is transcribed…';
  const {samples, rateHz} = await samplesOf(file);
  const wholeS = samples.length / rateHz;
  const {durationS} = await finished({kind: 'transcribe', samples, rateHz}, ({words, heardS}) => {
    recording.add(words);
    recording.progress.value = heardS / wholeS;
  }, [samples.buffer]);
  recording.done(durationS);
}

/** Return {samples, rateHz} of a file. The browser decodes what is no WAV file, and changes its rate to the model's. */
async function samplesOf(file) {
  const wav = await finished({kind: 'read', bytes: await file.arrayBuffer()});
  if (wav.kind === 'samples') return wav;
  try {
    const decoded = await new OfflineAudioContext(1, 1, rateHz).decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({length: decoded.numberOfChannels}, (_, channel) => decoded.getChannelData(channel));
    return {samples: mixed(channels).slice(), rateHz};
  } catch {
    throw new Error('this browser knows no such sound');
  }
}

/** Transcribe what the microphone hears until it is stopped. */
async function record() {
  const recording = new Recording(`Recording ${new Date().toLocaleTimeString()}`);
  recording.facts.textContent = 'is heard…';
  recording.progress.hidden = true;
  try {
    microphone = await openMicrophone();
    showRecording(true);
    await hear(microphone, recording);
  } catch (error) {
    recording.fail(error.message);
  } finally {
    await microphone?.close();
    microphone = null;
    showRecording(false);
  }
}

/** Show words while somebody speaks. */
async function hear(opened, recording) {
  const take = ({kind, text, words}) => {
    if (kind === 'words') recording.add(words);
    recording.view.showPartial(kind === 'words' ? '' : text);
  };
  await finished({kind: 'listen', rateHz: opened.rateHz});
  const kept = [];
  const failed = new Promise((_, reject) => {
    opened.take = (samples) => {
      kept.push(samples);
      finished({kind: 'block', samples}, take).catch(reject);
    };
  });
  await Promise.race([opened.ended, failed]);
  recording.hearIn(wavOf(joined(kept), opened.rateHz));
  const {durationS} = await finished({kind: 'end'}, take);
  recording.done(durationS);
}

/** Return the open microphone {rateHz, take, ended, stop, close}; `take` gets each block of samples. */
async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error('a browser gives the microphone only to https and to this machine');
  const asIs = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const stream = await navigator.mediaDevices.getUserMedia({audio: asIs});
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL('microphone.js', import.meta.url));
  const mono = {numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit'};
  const node = new AudioWorkletNode(context, 'recorder', mono);
  const opened = {rateHz: context.sampleRate, take: () => {}, stop: () => node.port.postMessage('end')};
  opened.ended = new Promise((resolve) => {
    node.port.onmessage = ({data: samples}) => {
      if (!samples.length) return resolve();
      showLoudness(samples);
      return opened.take(samples);
    };
    for (const track of stream.getTracks()) track.addEventListener('ended', opened.stop); // it was pulled out
  });
  opened.close = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  context.createMediaStreamSource(stream).connect(node);
  return opened;
}

function showRecording(isOn) {
  byId('record').textContent = isOn ? 'Stop' : 'Record';
  byId('record').setAttribute('aria-pressed', isOn);
  byId('record').disabled = false;
  byId('loudness').hidden = !isOn;
}

function showLoudness(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  byId('loudness').querySelector('meter').value = 10 * Math.log10(power + 1e-9);
}

/** Return samples as a WAV file in 16 bits, for the player. */
function wavOf(samples, rateHz) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, at) => view.setUint8(place + at, letter.charCodeAt(0)));
  write(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  for (const [place, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) view.setUint16(place, value, true);
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 2 * rateHz, true);
  write(36, 'data');
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, at) => view.setInt16(44 + 2 * at, Math.round(32767 * Math.min(Math.max(sample, -1), 1)), true));
  return new Blob([view], {type: 'audio/wav'});
}

function listen() {
  byId('choose').addEventListener('click', () => byId('files').click());
  byId('files').addEventListener('change', ({target}) => {
    transcribeFiles([...target.files]);
    target.value = ''; // so that the same file can be chosen again
  });
  byId('record').addEventListener('click', () => {
    byId('record').disabled = true;
    if (microphone) microphone.stop();
    else record();
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    byId('drop').classList.add('over');
  });
  document.addEventListener('dragleave', () => byId('drop').classList.remove('over'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    byId('drop').classList.remove('over');
    if (rateHz) transcribeFiles([...event.dataTransfer.files]);
  });
}

listen();
start();
