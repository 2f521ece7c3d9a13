'use strict';
// Going through utterances: the page of `asr review`. It needs player.js before it.
//
// What is kept is asked for in one order (`inTurn`), and shown as kept only when the server has answered: then it is on
// disk. Each request names the version of the utterance that it is based on. The server refuses it if there is a newer
// one, from another tab; then a person chooses.

const STEP_S = 0.01;
const LARGE_STEP_S = 0.1;
const SHORTEST_S = 0.02;
const SETTLED_MS = 500; // after the last key that moves a border
const NEAR_S = 0.5; // a border that is as near to the end of the audio needs more of it

const byId = (id) => document.getElementById(id);
const start = JSON.parse(byId('start').textContent);
const player = new Player();
const view = new SoundView(player);

let current = null; // the utterance, as the server has it
let borders = [0, 0]; // start and end, as they are shown
let audioStartS = 0; // where the audio begins in the recording
let newer = null; // what another tab made of the utterance, as long as nobody has chosen
let visits = 0;
let target = start.first; // the place that is shown, or that was asked for last
let confirming = false;
let moving = null; // the timer that keeps a moved border
let turn = Promise.resolve();
const corrected = []; // the places that this tab corrected, the latest last

// ---- the server

/** Return what the server answers; it raises an error with a reason that can be shown. */
async function ask(path, wish = null) {
  const headers = {'X-Review-Token': start.token, 'Content-Type': 'application/json'};
  const options = wish === null ? {} : {method: 'POST', headers, body: JSON.stringify(wish)};
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error('asr review does not answer; start it again and open its new address');
  }
  if (!response.ok) throw new Error(await response.text());
  return response;
}

/** Do one thing after the other; resolve to what it resolves to, or to false after an error, which is shown. */
function inTurn(deed) {
  turn = turn.then(deed).catch((error) => {
    say(`Not kept: ${error.message}`, true);
    return false;
  });
  return turn;
}

/** Ask for a correction, and show what became of it; resolve to whether it is kept. */
async function request(path, now, done) {
  const wish = {place: current.place, version: current.version, now};
  const sent = {text: byId('text').value, borders};
  say('Keeping …');
  const answer = await (await ask(path, wish)).json();
  showCounts(answer.counts);
  if (!answer.kept) {
    if (answer.utterance.version !== wish.version) showConflict(answer.utterance);
    say(`Not kept: ${answer.reason}`, true);
    return false;
  }
  show(answer.utterance, sent);
  say(done);
  return true;
}

/** Keep changes of what the utterance is now. */
async function keep(changes, done) {
  const {place} = current;
  const kept = await request('correct', {...current.now, ...changes}, done);
  if (kept) corrected.push(place);
  return kept;
}

// ---- what people do

const textChanged = () => byId('text').value !== current.shown_text;
const bordersMoved = () => borders[0] !== current.now.start_s || borders[1] !== current.now.end_s;

/** Keep what was changed and not kept yet; resolve to whether nothing is left to keep. */
function settle() {
  clearTimeout(moving);
  return inTurn(async () => {
    if (!current) return true;
    if (newer) {
      say('Choose first: take that, or keep mine', true);
      return false;
    }
    const changes = {};
    if (textChanged()) Object.assign(changes, {text: byId('text').value, confirmed: true});
    if (bordersMoved()) Object.assign(changes, {start_s: borders[0], end_s: borders[1]});
    return Object.keys(changes).length === 0 || keep(changes, 'Kept');
  });
}

/** Keep the text as right, and go to the next utterance. */
async function confirm() {
  if (confirming) return; // or a key that is pressed twice would pass over the next one
  confirming = true;
  const isKept = await settle() && await inTurn(async () => {
    const text = byId('text').value;
    const known = current.now.confirmed && current.now.text === text;
    return known || keep({text, confirmed: true}, 'Kept as right');
  });
  if (isKept) await step(1);
  confirming = false;
}

async function toggleBad() {
  if (!(await settle())) return;
  await inTurn(() => {
    const bad = !current.now.bad;
    return keep({bad}, bad ? 'Kept as bad' : 'Kept as not bad');
  });
}

async function undo() {
  if (!(await settle())) return;
  const place = corrected.pop() ?? current.place;
  if (place !== current.place) await go(place);
  if (place !== current.place) return;
  await inTurn(() => request('undo', null, 'Undone, which is kept'));
}

function takeHeard() {
  if (!current.heard?.text || current.fixed) return;
  byId('text').value = current.heard.text;
  settle();
}

async function go(place) {
  if (place < 0 || place >= start.counts.all) {
    if (await settle()) say(place < 0 ? 'This is the first one' : 'This was the last one');
    return;
  }
  target = place;
  if (!(await settle())) {
    target = current.place;
    return;
  }
  if (target !== place) return; // another one was asked for meanwhile
  visits += 1;
  const visit = visits;
  try {
    const utterance = await (await ask(`utterance/${place}`)).json();
    if (visit !== visits) return;
    player.close();
    show(utterance);
    await load();
  } catch (error) {
    say(error.message, true);
  }
}

const step = (by) => go(target + by);

/** Play the utterance, or with the seconds around it; stop if it plays. */
function play(around = false) {
  if (player.playing) player.pause();
  else if (around) player.play();
  else player.play(borders[0] - audioStartS, borders[1] - audioStartS);
}

// ---- what is shown

function say(text, refused = false) {
  byId('status').textContent = text;
  byId('status').classList.toggle('refused', refused);
}

function showCounts(counts) {
  start.counts = counts;
  byId('counts').textContent = `· ${counts.confirmed} right · ${counts.bad} bad`;
}

/**
 * Show an utterance, without its audio. What was sent to the server is replaced by what it made of that; what was typed
 * or moved since then stays, and is kept later. If nothing was sent, all is replaced.
 */
function show(utterance, sent = null) {
  const isOther = current?.place !== utterance.place;
  const text = byId('text');
  if (sent === null || text.value === sent.text) text.value = utterance.shown_text;
  if (sent === null || borders === sent.borders) borders = [utterance.now.start_s, utterance.now.end_s];
  current = utterance;
  newer = null;
  byId('number').value = utterance.place + 1;
  byId('name').firstChild.textContent = utterance.id;
  text.readOnly = Boolean(utterance.fixed);
  byId('conflict').hidden = true;
  byId('fixed').hidden = !utterance.fixed;
  byId('fixed').textContent = `Text and borders cannot be corrected here, because ${utterance.fixed}.`;
  byId('bad').setAttribute('aria-pressed', utterance.now.bad);
  showFacts();
  showHeard(utterance.heard);
  showText();
  showBorders();
  if (!isOther && needsMoreAudio(utterance.window_s)) load(false);
}

function showFacts() {
  const {split, speaker, now, heard} = current;
  const facts = [split, speaker, `${(borders[1] - borders[0]).toFixed(2)} s`];
  if (now.confirmed) facts.push('right');
  if (now.bad) facts.push('bad');
  if (heard?.reason) facts.push(heard.reason);
  if (typeof heard?.doubt === 'number') facts.push(`doubt ${heard.doubt.toFixed(2)}`);
  byId('facts').textContent = facts.filter(Boolean).join(' · ');
}

function showHeard(heard) {
  byId('heard').hidden = !heard || !heard.text;
  if (!heard) return;
  const words = heard.words.map((word, place) => heard.right[place] === false ? element('mark', {}, word) : word);
  byId('heard-text').replaceChildren(...words.flatMap((word) => [word, heard.separator]));
}

function showText() {
  const text = byId('text');
  text.classList.toggle('changed', textChanged());
  text.style.height = 'auto';
  text.style.height = `${Math.min(text.scrollHeight + 4, window.innerHeight / 2)}px`;
}

function showConflict(utterance) {
  newer = utterance;
  const {start_s: startS, end_s: endS, bad} = utterance.now;
  const times = `${startS.toFixed(2)} to ${endS.toFixed(2)} s`;
  byId('newer').textContent = `${utterance.shown_text} (${times}${bad ? ', bad' : ''})`;
  byId('conflict').hidden = false;
}

/** Fetch the audio of the utterance; a recording that cannot be read is named, and work goes on. */
async function load(plays = byId('plays').checked) {
  const visit = visits;
  const response = await ask(`audio/${current.place}`);
  const isAudio = response.headers.get('Content-Type').startsWith('audio/');
  const content = isAudio ? await response.arrayBuffer() : await response.json();
  if (visit !== visits) return;
  if (isAudio) {
    audioStartS = Number(response.headers.get('X-Review-Start'));
    await player.open(content);
  }
  byId('unheard').hidden = isAudio;
  byId('unheard').textContent = isAudio ? '' : `It cannot be heard: ${content.reason}`;
  showBorders();
  // Browsers allow sound after the first click or key.
  if (isAudio && plays && navigator.userActivation?.hasBeenActive) play();
}

/** Return whether a border is near to an end of the audio, and the server has more. */
function needsMoreAudio([firstS, lastS]) {
  const audioEndS = audioStartS + player.durationS;
  const before = borders[0] - audioStartS < NEAR_S && firstS < audioStartS - NEAR_S;
  return player.durationS > 0 && (before || (audioEndS - borders[1] < NEAR_S && lastS > audioEndS + NEAR_S));
}

// ---- the borders of the utterance, handles over its pictures

const outside = [0, 1].map(() => element('div', {class: 'outside'}));
const handles = ['Start', 'End'].map(handle);
view.pictures.append(...outside, ...handles);

function handle(name, which) {
  const made = element('div', {class: 'border', role: 'slider', tabindex: 0, 'aria-label': `${name} of the utterance`});
  made.addEventListener('click', (event) => event.stopPropagation()); // it would play from there
  made.addEventListener('pointerdown', (event) => {
    made.setPointerCapture(event.pointerId);
    made.focus();
    event.preventDefault();
  });
  made.addEventListener('pointermove', (event) => {
    if (made.hasPointerCapture(event.pointerId)) move(which, audioStartS + view.secondsAt(event));
  });
  made.addEventListener('pointerup', () => settle());
  made.addEventListener('blur', () => settle());
  made.addEventListener('keydown', (event) => {
    const by = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
    if (!by) return;
    event.preventDefault();
    move(which, borders[which] + by * (event.shiftKey ? LARGE_STEP_S : STEP_S));
    clearTimeout(moving);
    moving = setTimeout(settle, SETTLED_MS);
  });
  return made;
}

/** Move a border to a time in the recording, as far as there is audio, in whole milliseconds. */
function move(which, seconds) {
  if (current.fixed || !player.durationS) return;
  const [first, last] = [audioStartS, audioStartS + player.durationS];
  const [lowest, highest] = which === 0 ? [first, borders[1] - SHORTEST_S] : [borders[0] + SHORTEST_S, last];
  const rounded = Math.round(seconds * 1000) / 1000;
  borders = borders.with(which, Math.min(Math.max(rounded, lowest), highest));
  showBorders();
  showFacts();
}

function showBorders() {
  const durationS = player.durationS || 1;
  const share = (seconds) => Math.min(Math.max((seconds - audioStartS) / durationS, 0), 1) * 100;
  for (const [which, made] of handles.entries()) {
    made.style.left = `${share(borders[which])}%`;
    made.setAttribute('aria-valuemin', audioStartS.toFixed(3));
    made.setAttribute('aria-valuemax', (audioStartS + durationS).toFixed(3));
    made.setAttribute('aria-valuenow', borders[which].toFixed(3));
    made.setAttribute('aria-valuetext', `${borders[which].toFixed(2)} seconds`);
    made.hidden = !player.durationS;
  }
  outside[0].style.left = 0;
  outside[0].style.width = `${share(borders[0])}%`;
  outside[1].style.left = `${share(borders[1])}%`;
  outside[1].style.right = 0;
}

// ---- other tabs

/** Show what another tab did; if something was typed here, a person chooses. */
function follow({place, version}) {
  inTurn(async () => { // after our own requests, because this may be the news of one
    if (place !== current?.place || version <= (newer ?? current).version) return;
    const utterance = await (await ask(`utterance/${place}`)).json();
    if (newer || textChanged() || bordersMoved()) {
      showConflict(utterance);
    } else {
      show(utterance);
      say('Corrected in another tab');
    }
  });
}

function takeTheirs() {
  show(newer);
  say('');
}

function keepMine() {
  current = newer;
  newer = null;
  byId('conflict').hidden = true;
  settle();
}

// ---- keys and buttons

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  b: toggleBad,
  u: undo,
  m: takeHeard,
  t: () => byId('text').focus(),
  s: () => handles[0].focus(),
  e: () => handles[1].focus(),
  ' ': () => play(),
  Enter: confirm,
};

function pressed(event) {
  if (event.altKey || event.isComposing || !current) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    play();
  } else if (event.target === byId('text')) {
    pressedInText(event);
  } else if (!event.target.matches('input, button') || (event.target.matches('button') && /^[a-z]$/.test(event.key))) {
    const deed = event.key === ' ' && event.shiftKey ? () => play(true) : KEYS[event.key];
    if (!deed) return;
    event.preventDefault();
    deed();
  }
}

function pressedInText(event) {
  if (event.key === 'Enter') {
    event.preventDefault();
    confirm();
  } else if (event.key === 'Escape') {
    event.target.value = current.shown_text;
    showText();
    event.target.blur();
  }
}

function listen() {
  document.addEventListener('keydown', pressed);
  const deeds = {
    play: () => play(), keep: confirm, bad: toggleBad, undo, take: takeHeard, theirs: takeTheirs, mine: keepMine,
    previous: () => step(-1), next: () => step(1),
  };
  for (const [id, deed] of Object.entries(deeds)) {
    byId(id).addEventListener('click', (event) => {
      if (event.detail) byId(id).blur(); // after the mouse, the space bar plays
      deed();
    });
  }
  byId('text').addEventListener('input', showText);
  byId('text').addEventListener('blur', () => settle());
  byId('number').addEventListener('change', () => go(Number(byId('number').value) - 1));
  new EventSource('changes').addEventListener('message', (event) => follow(JSON.parse(event.data)));
  window.addEventListener('beforeunload', (event) => {
    if (current && (textChanged() || bordersMoved())) event.preventDefault(); // the browser asks
  });
}

byId('sound').append(view.element);
listen();
showCounts(start.counts);
go(start.first);
