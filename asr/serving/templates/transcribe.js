'use strict';
// The page of the server: files and the microphone → transcripts. The recordings stay in the page.

const byId = (id) => document.getElementById(id);
const start = JSON.parse(byId('start').textContent);
const queue = []; // files that wait: {recording, file}
let atWork = null; // the file that is transcribed: {recording, file, abort}
let speaking = null; // {recording, microphone, stream, blocks}
let isOpening = false; // whether the user is asked for the microphone
let spoken = 0; // number of recordings by microphone

// --- what the server is asked

function token() {
  return byId('token').value.trim();
}

/** Ask the server; throws an Error with a sentence if it refuses or cannot be reached. */
async function ask(path, options = {}) {
  const headers = token() ? {Authorization: `Bearer ${token()}`, ...options.headers} : options.headers;
  let answer;
  try {
    answer = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server cannot be reached. Is it still running?');
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new Error('The server wants its token. Type it above.');
  const content = await answer.json().catch(() => ({}));
  throw new Error(content.error?.message ? sentence(content.error.message) : `The server answers ${answer.status}.`);
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}

function say(text, isError = false) {
  byId('said').textContent = isError ? '' : text;
  byId('error').textContent = isError ? text : '';
}

async function loadModels() {
  if (start.needs_token && !token()) return;
  try {
    const {data} = await (await ask('v1/models')).json();
    const before = byId('model').value;
    byId('model').replaceChildren(...data.map(({id}) => element('option', {value: id}, id)));
    if (data.some(({id}) => id === before)) byId('model').value = before;
    say('');
  } catch (error) {
    say(error.message, true);
  }
}

function hotwords() {
  return byId('hotwords').value.split(/[,;\n]/).map((word) => word.trim()).filter(Boolean);
}

// --- recordings

function newRecording(name) {
  const recording = new Recording(name);
  recording.onsave = (format) => save(recording, format);
  recording.onremove = () => remove(recording);
  recording.element.recording = recording;
  return recording;
}

/** Show new recordings above those that are there. */
function show(...recordings) {
  byId('recordings').prepend(...recordings.map((recording) => recording.element));
  byId('clear').disabled = false;
}

function remove(recording) {
  const place = queue.findIndex((one) => one.recording === recording);
  if (place >= 0) queue.splice(place, 1);
  if (atWork?.recording === recording) atWork.abort.abort();
  if (speaking?.recording === recording) stopSpeaking({keep: false});
  recording.close();
  byId('clear').disabled = !byId('recordings').children.length;
  byId('choose').focus();
}

function clear() {
  for (const section of [...byId('recordings').children]) remove(section.recording);
}

async function save(recording, format) {
  const {words, durationS, name} = recording;
  try {
    const body = JSON.stringify({name, duration_s: durationS, words});
    const headers = {'Content-Type': 'application/json'};
    const answer = await ask(`v1/written/${format}`, {method: 'POST', headers, body});
    const url = URL.createObjectURL(await answer.blob());
    element('a', {href: url, download: `${name.replace(/\.[^.]*$/, '')}.${format}`}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  } catch (error) {
    say(error.message, true);
  }
}

// --- files

function takeFiles(files) {
  const recordings = [];
  for (const file of files) {
    const recording = newRecording(file.name);
    recordings.push(recording);
    recording.listen(file);
    if (file.size > start.upload_mb * 1e6) {
      recording.fail(`The file is larger than ${start.upload_mb} MB, which is the most that the server takes.`);
    } else {
      recording.state('Waits.');
      queue.push({recording, file});
    }
  }
  show(...recordings);
  transcribeNext();
}

async function transcribeNext() {
  if (atWork || !queue.length) return;
  atWork = {...queue.shift(), abort: new AbortController()};
  const {recording, file, abort} = atWork;
  recording.state('Transcribing…');
  try {
    const form = new FormData();
    form.append('model', byId('model').value);
    form.append('prompt', hotwords().join(', '));
    form.append('response_format', 'verbose_json');
    form.append('timestamp_granularities[]', 'word');
    form.append('file', file);
    const answer = await ask('v1/audio/transcriptions', {method: 'POST', body: form, signal: abort.signal});
    const transcript = await answer.json();
    recording.add(wordsOf(transcript));
    recording.finish(transcript.duration);
  } catch (error) {
    if (error.name !== 'AbortError') recording.fail(error.message);
  }
  atWork = null;
  transcribeNext();
}

// --- the microphone

async function speak() {
  if (speaking) {
    await stopSpeaking();
    return;
  }
  if (isOpening) return;
  isOpening = true; // the button stays enabled, or it would lose the focus
  say('');
  try {
    beginSpeaking(await openMicrophone());
  } catch (error) {
    say(error.message, true);
  }
  isOpening = false;
}

function beginSpeaking(microphone) {
  spoken += 1;
  const recording = newRecording(`Microphone ${spoken}`);
  recording.text.setAttribute('role', 'log');
  show(recording);
  const wanted = {model: byId('model').value, sample_rate_hz: microphone.rateHz, hotwords: hotwords()};
  const stream = new Stream(wanted, token());
  const mine = {recording, microphone, stream, blocks: []};
  speaking = mine;
  stream.addEventListener('message', ({detail}) => hear(recording, detail));
  stream.addEventListener('closed', ({detail}) => streamClosed(mine, detail));
  microphone.onlost = () => stopSpeaking();
  microphone.onblock = (samples, loudest) => {
    mine.blocks.push(samples.slice(0));
    showLevel(loudest);
    stream.send(samples);
  };
  microphone.start();
  recording.state('Listening…');
  showSpeaking(true);
}

function hear(recording, message) {
  if (message.type === 'partial') recording.guess(message.text);
  if (message.type === 'final') recording.add(message.words);
  if (message.type === 'ready' && message.notes.length) say(sentence(message.notes.join('; ')));
  if (message.type === 'end') recording.finish(message.duration_s);
}

/** Stop the microphone; the server still hears what was said. */
async function stopSpeaking({keep = true} = {}) {
  const mine = speaking;
  if (!mine) return;
  speaking = null;
  showSpeaking(false);
  await mine.microphone.stop();
  if (!keep) {
    mine.stream.close();
    return;
  }
  mine.recording.listen(wavFile(mine.blocks, mine.microphone.rateHz));
  mine.stream.end();
}

async function streamClosed(mine, reason) {
  if (speaking === mine) await stopSpeaking();
  if (!reason) return;
  if (mine.recording.words.length) mine.recording.finish(mine.recording.words.at(-1).end_s);
  mine.recording.fail(sentence(reason));
}

function showSpeaking(isOn) {
  byId('speak').textContent = isOn ? 'Stop' : 'Speak';
  byId('speak').setAttribute('aria-pressed', String(isOn));
  byId('meter').hidden = !isOn;
  showLevel(0);
}

/** Show how loud it is, from -60 dB to full scale. */
function showLevel(loudest) {
  byId('level').value = Math.max(0, 1 + Math.log10(Math.max(loudest, 1e-6)) / 3);
}

// --- the page

function setUp() {
  byId('token').value = sessionStorage.getItem('token') ?? '';
  byId('token').addEventListener('change', () => {
    sessionStorage.setItem('token', token());
    loadModels();
  });
  byId('choose').addEventListener('click', () => byId('files').click());
  byId('files').addEventListener('change', ({target}) => {
    takeFiles(target.files);
    target.value = ''; // the same file may be chosen again
  });
  byId('speak').addEventListener('click', speak);
  byId('clear').addEventListener('click', clear);
  const fault = microphoneFault();
  byId('speak').disabled = Boolean(fault);
  byId('no-microphone').textContent = fault;
  setUpDrop();
  loadModels();
}

function setUpDrop() {
  const hasFiles = ({dataTransfer}) => dataTransfer.types.includes('Files');
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove('dropping');
    takeFiles(event.dataTransfer.files);
  });
}

setUp();

/** Return OpenAI's words as those of a stream: whether a space is before each is in the text. */
function wordsOf(transcript) {
  let place = 0;
  return (transcript.words ?? []).map(({word, start, end, confidence}) => {
    const found = transcript.text.indexOf(word, place);
    const spaceBefore = found <= 0 || /\s/.test(transcript.text[found - 1]);
    if (found >= 0) place = found + word.length;
    return {text: word, space_before: spaceBefore, start_s: start, end_s: end, confidence: confidence ?? 1};
  });
}
