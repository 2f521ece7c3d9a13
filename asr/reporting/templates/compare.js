'use strict';
// The list of utterances of the page of `asr compare`: by pair of systems, filtered, searched, played.
//
// The element #data has {letters, unit, utterances: [utterance, …]}:
//   letters: the short name of each system, e.g. ['A', 'B'].
//   utterance: {id, speaker, length, errors, words, times, audio}; speaker is null if it is not known.
//   length: of the reference, in the unit. errors: of each system.
//   words: [[reference, hypothesis of A, hypothesis of B, …], …]; null for a gap.
//   times: of each system, [start, end] in seconds of each of its words; none where they are not known.
//   audio: number of the element #audio-NUMBER, which has the audio as Opus in base64; null if there is none.

const ROWS_TOGETHER = 50; // shown at first, and with each click on "more"

const data = JSON.parse(document.getElementById('data').textContent);
document.getElementById('data').remove(); // it is in memory once

/** Return which utterances are shown, by the value of #show; `a` and `b` are the errors of the pair. */
const SHOWN = {
  all: () => true,
  first: (a, b) => a === 0 && b > 0,
  second: (a, b) => a > 0 && b === 0,
  differ: (a, b) => a !== b,
  both: (a, b) => a > 0 && b > 0,
};

/** Return what a word of a system is: C correct, S substituted, D deleted, I inserted, '' a gap that is no error. */
function markOf(reference, hypothesis) {
  if (reference === null) return hypothesis === null ? '' : 'I';
  if (hypothesis === null) return 'D';
  return reference === hypothesis ? 'C' : 'S';
}

/** Return the words of one text of an utterance; 0 is the reference, 1 the first system. */
function textOf(utterance, place) {
  return utterance.words.map((column) => column[place]).filter((word) => word !== null).join(' ');
}

/** Return the text in which a search looks, in lower case. */
function searchedText(utterance) {
  utterance.searched ??= [
    utterance.id,
    utterance.speaker ?? '',
    ...utterance.words[0].map((_, place) => textOf(utterance, place)),
  ].join('\n').toLowerCase();
  return utterance.searched;
}

function counted(number, thing) {
  return `${number} ${thing}${number === 1 ? '' : 's'}`;
}

/** Return one place of the alignment: the words of all texts, one above the other; `times` yields those of each text. */
function columnElement(column, times) {
  const [reference, ...hypotheses] = column;
  const cells = hypotheses.map((word, system) => {
    const part = word === null ? undefined : times[system].next().value;
    const attributes = {class: markOf(reference, word), 'data-part': part ? part.join(' ') : null};
    return element('span', attributes, word ?? (reference ? '–' : ''));
  });
  return element('span', {class: 'column'}, element('span', {}, reference ?? ''), ...cells);
}

/** Return the names of the texts, one above the other. */
function namesElement() {
  const names = ['said', ...data.letters].map((name) => element('span', {}, name));
  return element('span', {class: 'column names', dir: 'ltr'}, ...names);
}

/** Begin each line of an utterance with the names of the texts; where lines end depends on the width of the page. */
function nameLines(words) {
  for (const added of words.querySelectorAll('.break, .break + .names')) added.remove();
  let top = words.firstElementChild.offsetTop;
  for (const column of [...words.children].slice(1)) {
    if (column.offsetTop > top) column.before(element('span', {class: 'break'}), namesElement());
    top = column.offsetTop;
  }
}

function nameAllLines() {
  for (const words of document.querySelectorAll('.words')) nameLines(words);
}

/** Return an utterance for those who hear the page: each text as a whole, in place of the columns. */
function spokenElement(utterance) {
  const lines = [element('p', {}, 'said: ', element('bdi', {}, textOf(utterance, 0)))];
  data.letters.forEach((letter, place) => {
    const text = textOf(utterance, place + 1) || 'nothing';
    lines.push(element('p', {}, `${letter}, ${counted(utterance.errors[place], 'error')}: `, element('bdi', {}, text)));
  });
  return element('div', {class: 'spoken'}, ...lines);
}

function rowElement(utterance) {
  const head = element('h3', {class: 'head'}, element('bdi', {}, utterance.id));
  const errors = data.letters.map((letter, place) => `${letter} ${utterance.errors[place]}`).join(', ');
  const about = element('p', {class: 'facts'}, `errors: ${errors} of ${counted(utterance.length, data.unit)}`);
  if (utterance.speaker !== null) about.append(' · ', element('bdi', {}, utterance.speaker));
  const words = element('div', {class: 'words', dir: 'auto', 'aria-hidden': 'true'}, namesElement());
  const times = utterance.times.map((ofSystem) => ofSystem.values());
  words.append(...utterance.words.map((column) => columnElement(column, times)));
  const row = element('article', {class: 'row', tabindex: -1, 'aria-label': utterance.id}, head, about);
  if (utterance.audio !== null) {
    const listen = element('button', {type: 'button', class: 'listen', 'aria-label': `Listen to ${utterance.id}`}, 'Listen');
    listen.addEventListener('click', () => open(row, utterance));
    row.append(listen);
  }
  row.append(words, spokenElement(utterance));
  row.utterance = utterance;
  return row;
}

const player = new Player();
const controls = Object.fromEntries(
  ['search', 'pair', 'show', 'count', 'list', 'more'].map((id) => [id, document.getElementById(id)]));
const state = {found: [], view: null, open: null};

/** Return the places of the two systems that are compared. */
function chosenPair() {
  return controls.pair.value.split(' ').map((letter) => data.letters.indexOf(letter));
}

/** Let the filters name the systems of the pair. */
function nameFilters() {
  const [first, second] = chosenPair().map((place) => data.letters[place]);
  const texts = {
    all: 'all with errors',
    differ: `${first} and ${second} differ`,
    first: `${first} right, ${second} wrong`,
    second: `${second} right, ${first} wrong`,
    both: `${first} and ${second} wrong`,
  };
  for (const option of controls.show.options) option.textContent = texts[option.value];
}

/** Show the utterances that pair, filter and search ask for; those where the pair differs most are first. */
function refresh() {
  close();
  const [first, second] = chosenPair();
  const wanted = controls.search.value.trim().toLowerCase();
  const isShown = SHOWN[controls.show.value];
  const gap = ({errors}) => Math.abs(errors[first] - errors[second]);
  state.found = data.utterances
    .filter((utterance) => isShown(utterance.errors[first], utterance.errors[second]))
    .filter((utterance) => !wanted || searchedText(utterance).includes(wanted))
    .sort((one, other) => gap(other) - gap(one)); // equal ones stay in their order
  controls.count.textContent = `${state.found.length} of ${counted(data.utterances.length, 'utterance')} with errors`;
  controls.list.replaceChildren();
  showMore();
}

function showMore() {
  const shown = controls.list.childElementCount;
  const rows = state.found.slice(shown, shown + ROWS_TOGETHER).map(rowElement);
  controls.list.append(...rows);
  for (const row of rows) nameLines(row.querySelector('.words'));
  const left = state.found.length - controls.list.childElementCount;
  controls.more.hidden = left === 0;
  controls.more.textContent = `Show ${Math.min(left, ROWS_TOGETHER)} more of ${left}`;
}

function close() {
  player.close();
  if (state.view) {
    state.view.element.previousElementSibling.hidden = false;
    state.view.remove();
  }
  state.view = state.open = null;
}

/** Show the sound of an utterance and play it, or a part of it. The player's button takes the place of the row's. */
async function open(row, utterance, startS, endS) {
  if (state.open !== utterance) {
    close();
    state.open = utterance;
    state.view = new SoundView(player);
    const listen = row.querySelector('.listen');
    listen.after(state.view.element);
    const audio = document.getElementById(`audio-${utterance.audio}`);
    if (!await player.open(bytesOfBase64(audio.textContent))) return;
    if (document.activeElement === listen) state.view.button.focus();
    listen.hidden = true;
  }
  player.play(startS, endS);
}

/** Move the focus to the row that is `step` rows further. */
function walk(step) {
  const rows = [...controls.list.children];
  const now = document.activeElement.closest?.('.row');
  let place = now ? rows.indexOf(now) + step : 0;
  if (place >= rows.length && !controls.more.hidden) showMore();
  place = Math.max(place, 0);
  const row = controls.list.children[place];
  row?.focus();
  row?.scrollIntoView({block: 'nearest'});
}

function listen() {
  const row = document.activeElement.closest?.('.row');
  if (!row || row.utterance.audio === null) return;
  if (state.open === row.utterance) player.toggle();
  else open(row, row.utterance);
}

const KEYS = {j: () => walk(1), k: () => walk(-1), ' ': listen, '/': () => controls.search.focus()};

document.addEventListener('keydown', (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest('input, select, textarea')) {
    return; // they have their own
  }
  if (event.key === ' ' && !event.target.matches('.row')) return; // buttons have their own, and the page scrolls
  event.preventDefault();
  act();
});

controls.list.addEventListener('click', (event) => {
  const word = event.target.closest('[data-part]');
  if (!word) return;
  const row = word.closest('.row');
  open(row, row.utterance, ...word.dataset.part.split(' ').map(Number));
});
controls.search.addEventListener('input', refresh);
controls.show.addEventListener('change', refresh);
controls.pair.addEventListener('change', () => {
  nameFilters();
  refresh();
});
controls.more.addEventListener('click', () => {
  const first = controls.list.childElementCount;
  showMore();
  controls.list.children[first].focus();
});
document.querySelector('.tools').addEventListener('submit', (event) => event.preventDefault());
nameFilters();
refresh();
let widthPx = controls.list.clientWidth;
new ResizeObserver(() => {
  if (controls.list.clientWidth === widthPx) return; // only its height has changed
  widthPx = controls.list.clientWidth;
  nameAllLines();
}).observe(controls.list);
