// The page: files and the microphone → the worker → words that can be heard, and subtitles to save. It needs recordings.js
// and open_microphone.js before it.

import {toJson, toSrt, toTxt, toVtt} from './recognizer/subtitles.js';
import {mixed} from './recognizer/wav.js';

const WRITTEN = {txt: toTxt, srt: toSrt, vtt: toVtt, json: toJson};

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
  byId('said').textContent = text;
}

async function start() {
  try {
    ({rateHz} = await finished({kind: 'load'}));
  } catch (error) {
    say(`The model cannot be loaded: ${error.message}`);
    return;
  }
  byId('choose').disabled = false;
  byId('speak').disabled = Boolean(microphoneFault());
  byId('speak').title = microphoneFault();
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

function newRecording(name, state) {
  const recording = new Recording(name);
  recording.state(state);
  recording.onsave = (format) => save(recording, format);
  recording.onremove = () => {
    recording.removed = true;
    recording.close();
  };
  byId('recordings').prepend(recording.element);
  return recording;
}

function save({name, words, durationS}, format) {
  const text = WRITTEN[format](words, durationS, name);
  const link = element('a', {href: URL.createObjectURL(new Blob([text], {type: 'text/plain'}))});
  link.download = `${name.replace(/\.[^.]*$/, '')}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function transcribeFiles(files) {
  for (const file of files) {
    const recording = newRecording(file.name, 'Waits.');
    recording.listen(file);
    turn = turn.then(() => transcribe(file, recording)).catch((error) => recording.fail(error.message));
  }
}

async function transcribe(file, recording) {
  if (recording.removed) return;
  recording.state('Transcribing…');
  const {samples, rateHz} = await samplesOf(file);
  const wholeS = samples.length / rateHz;
  const {durationS} = await finished({kind: 'transcribe', samples, rateHz}, ({words, heardS}) => {
    recording.add(words);
    recording.state(`Transcribing… ${Math.floor(100 * heardS / wholeS)} %`);
  }, [samples.buffer]);
  recording.finish(durationS);
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
    throw new Error('This browser knows no such sound.');
  }
}

/** Transcribe what the microphone hears until it is stopped. */
async function speak() {
  byId('speak').disabled = true;
  const recording = newRecording(`Recording ${new Date().toLocaleTimeString()}`, 'Opening the microphone…');
  try {
    microphone = await openMicrophone();
    await listenTo(microphone, recording);
  } catch (error) {
    recording.fail(error.message);
  } finally {
    microphone = null;
    showSpeaking(false);
  }
}

/** Show words while somebody speaks. */
async function listenTo({rateHz, ...opened}, recording) {
  const take = ({kind, text, words}) => {
    if (kind === 'words') recording.add(words);
    else recording.guess(text);
  };
  await finished({kind: 'listen', rateHz});
  const blocks = [];
  await new Promise((resolve, reject) => {
    microphone.onblock = (samples, loudest) => {
      byId('level').value = loudest;
      blocks.push(samples);
      const floats = Float32Array.from(new Int16Array(samples), (sample) => sample / 32768);
      finished({kind: 'block', samples: floats}, take).catch(reject);
    };
    microphone.onlost = microphone.finish = () => opened.stop().then(resolve, reject);
    opened.start();
    recording.state('Listening…');
    showSpeaking(true);
  });
  recording.listen(wavFile(blocks, rateHz));
  const {durationS} = await finished({kind: 'end'}, take);
  recording.finish(durationS);
}

function showSpeaking(isOn) {
  byId('speak').textContent = isOn ? 'Stop' : 'Speak';
  byId('speak').setAttribute('aria-pressed', isOn);
  byId('speak').disabled = false;
  byId('meter').hidden = !isOn;
}

function listen() {
  byId('choose').addEventListener('click', () => byId('files').click());
  byId('files').addEventListener('change', ({target}) => {
    transcribeFiles([...target.files]);
    target.value = ''; // so that the same file can be chosen again
  });
  byId('speak').addEventListener('click', () => {
    if (!microphone) speak();
    else {
      byId('speak').disabled = true;
      microphone.finish();
    }
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', ({relatedTarget}) => relatedTarget || document.body.classList.remove('dropping'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    if (rateHz) transcribeFiles([...event.dataTransfer.files]);
  });
}

listen();
start();
