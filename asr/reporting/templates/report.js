'use strict';
// The list of utterances of report.html: searched, filtered, opened, played.
//
// The element #data has {models: [{tokens, frame_shift_s}], utterances: [utterance, …]}, worst first:
//   {id, place, errors: [substitutions, deletions, insertions], length, words, speaker, duration_s, fields, posteriors}
//   place: number in the manifest. length: words of the reference. The last four only where they are known.
//   words: [[reference, hypothesis, start_s, end_s, confidence], …]; null for a gap; what is not known is left out.
//   posteriors: [model, frames, base64 of: tokens kept of each frame (8 bits), token ids (16), probabilities (8)]
// The element #audio-NUMBER has the audio of utterance NUMBER: an Opus file in base64.
//
// There may be many thousands. So rows exist only near what is seen (`RowList`), and one utterance at a time is open.

const ROWS_TOGETHER = 40; // made and taken away together
const NEAR_PX = 1500; // from what is seen
const ROW_PX = 84; // a guess, until rows were measured
const UNHEARD_S = 0.25; // around a deleted word at an end of the utterance

const data = JSON.parse(document.getElementById('data').textContent);
document.getElementById('data').remove(); // it is in memory once
const utterances = data.utterances;
utterances.forEach((utterance, number) => {
  utterance.number = number;
  utterance.wrong = utterance.errors.reduce((sum, count) => sum + count, 0);
});

/** Return what a pair of words is: C correct, S substituted, D deleted, I inserted. */
function markOf([reference, hypothesis]) {
  if (reference === null) return 'I';
  if (hypothesis === null) return 'D';
  return reference === hypothesis ? 'C' : 'S';
}

/** Return the text in which a search looks, in lower case. */
function searchedText(utterance) {
  utterance.searched ??= [
    utterance.id,
    utterance.speaker ?? '',
    utterance.words.map((word) => word[0] ?? '').filter(Boolean).join(' '),
    utterance.words.map((word) => word[1] ?? '').filter(Boolean).join(' '),
  ].join('\n').toLowerCase();
  return utterance.searched;
}

function audioOf(utterance) {
  return document.getElementById(`audio-${utterance.number}`);
}

/** Return the confidence of the least sure word; 1 if none is known. */
function leastSure(utterance) {
  return Math.min(1, ...utterance.words.map((word) => word[4] ?? 1));
}

function rateOf(utterance) {
  return utterance.wrong / Math.max(utterance.length, 1e-9);
}

// What is first, as numbers that rise.
const ORDERS = {
  errors: (utterance) => utterance.number,
  rate: (utterance) => -rateOf(utterance),
  unsure: leastSure,
  long: (utterance) => -(utterance.duration_s ?? utterance.length),
  place: (utterance) => utterance.place,
};

const SHOWN = {
  all: () => true,
  wrong: (utterance) => utterance.wrong > 0,
  right: (utterance) => utterance.wrong === 0,
  S: (utterance) => utterance.errors[0] > 0,
  D: (utterance) => utterance.errors[1] > 0,
  I: (utterance) => utterance.errors[2] > 0,
  audio: (utterance) => audioOf(utterance) !== null,
};

// What a click in a table above leaves in the list.
const FILTERS = {
  field: (utterance, [field, value]) =>
    (field === 'speaker' ? utterance.speaker : utterance.fields?.[field]) === value,
  substitutions: (utterance, [reference, hypothesis]) =>
    utterance.words.some((word) => word[0] === reference && word[1] === hypothesis),
  deletions: (utterance, [word]) => utterance.words.some((pair) => pair[0] === word && pair[1] === null),
  insertions: (utterance, [word]) => utterance.words.some((pair) => pair[0] === null && pair[1] === word),
};

/** Return the times that a click on a word plays; null if they are not known. A deleted word is between two others. */
function timesOf(utterance, place) {
  const [, , startS, endS] = utterance.words[place];
  if (startS != null) return [startS, endS];
  if (utterance.words[place][1] !== null) return null;
  const before = utterance.words.slice(0, place).findLast((word) => word[3] != null);
  const after = utterance.words.slice(place + 1).find((word) => word[2] != null);
  if (!before && !after) return utterance.words.some((word) => word[1] !== null) ? null : [0, Infinity];
  const fromS = before ? before[3] : 0;
  const toS = after ? after[2] : Infinity;
  return toS - fromS < UNHEARD_S ? [Math.max(0, fromS - UNHEARD_S), toS + UNHEARD_S] : [fromS, toS];
}

/** Return the tracks of the posteriors as `SoundView.showPosteriors` takes them. */
function tracksOf([model, frames, packed]) {
  const bytes = new DataView(bytesOfBase64(packed));
  let kept = 0;
  for (let frame = 0; frame < frames; frame += 1) kept += bytes.getUint8(frame);
  const byToken = new Map();
  let entry = 0;
  for (let frame = 0; frame < frames; frame += 1) {
    for (const end = entry + bytes.getUint8(frame); entry < end; entry += 1) {
      const token = bytes.getUint16(frames + 2 * entry, true);
      const probability = bytes.getUint8(frames + 2 * kept + entry) / 255;
      if (!byToken.has(token)) byToken.set(token, []);
      byToken.get(token).push([frame, probability]);
    }
  }
  const {tokens, frame_shift_s: frameShiftS} = data.models[model];
  const blank = byToken.get(0) ?? [];
  byToken.delete(0);
  const tracks = [...byToken].sort(([one], [other]) => one - other);
  return {
    tracks: tracks.map(([token, points]) => ({text: tokens[token].replaceAll(' ', '␣'), points})), blank, frameShiftS,
  };
}

/** Return the element of a pair of words; where the utterance is open and the times are known, a button. */
function wordElement(utterance, place, isOpen) {
  const [reference, hypothesis, startS, endS, confidence] = utterance.words[place];
  const mark = markOf(utterance.words[place]);
  // No <bdi>: `dir="auto"` of the line takes its direction from these texts, and looks into no <bdi>.
  const lines = [element('span', {}, reference ?? ''), element('span', {}, hypothesis ?? '')];
  if (!isOpen) return element('span', {class: `word ${mark}`, 'data-place': place}, ...lines);
  const times = startS == null ? '' : `${startS.toFixed(2)}–${endS.toFixed(2)} s`;
  const sure = confidence == null ? '' : `${Math.round(100 * confidence)} %`;
  if (times || sure) lines.push(element('small', {}, times), element('small', {}, sure));
  const what = {C: 'correct', S: 'substituted', D: 'deleted', I: 'inserted'}[mark];
  const label = `${what}: ${[reference ?? 'nothing', hypothesis ?? 'nothing', times, sure].filter(Boolean).join(', ')}`;
  if (!audioOf(utterance) || !timesOf(utterance, place)) {
    return element('span', {class: `word ${mark}`, title: what}, ...lines);
  }
  return element(
    'button', {class: `word ${mark}`, type: 'button', 'data-place': place, 'aria-label': label, title: what}, ...lines);
}

/** Return the row of an utterance, closed. */
function rowElement(utterance, place, count) {
  const head = element('button', {class: 'head', type: 'button', 'aria-expanded': 'false'});
  head.append(element('bdi', {}, utterance.id));
  const [substituted, deleted, inserted] = utterance.errors;
  const facts = [`${utterance.wrong} of ${utterance.length} words`];
  if (utterance.wrong) facts.push(`${substituted} S, ${deleted} D, ${inserted} I`);
  if (utterance.duration_s != null) facts.push(`${utterance.duration_s.toFixed(1)} s`);
  const about = element('div', {class: 'facts'}, facts.join(' · '));
  if (utterance.speaker != null) about.append(' · ', element('bdi', {}, utterance.speaker));
  const words = element('div', {class: 'words', dir: 'auto'});
  words.append(...utterance.words.map((_, word) => wordElement(utterance, word, false)));
  return element(
    'article',
    {class: utterance.wrong ? 'row' : 'row right', 'data-number': utterance.number, 'aria-posinset': place + 1, 'aria-setsize': count, 'aria-label': utterance.id},
    head, about, words);
}

/** The rows of a list: those near what is seen are elements, the others empty space. */
class RowList {
  constructor(place) {
    this.place = place;
    this.rowPx = ROW_PX;
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.turn(entry)), {
      rootMargin: `${NEAR_PX}px`,
    });
  }

  show(shown) {
    this.seen.disconnect();
    this.shown = shown;
    this.groups = [];
    for (let first = 0; first < shown.length; first += ROWS_TOGETHER) {
      const group = element('div');
      group.first = first;
      this.empty(group);
      this.groups.push(group);
    }
    if (this.groups.length) this.fill(this.groups[0]); // at once, or the list would be blank for a moment
    this.place.replaceChildren(...this.groups);
    this.groups.forEach((group) => this.seen.observe(group));
  }

  turn({target, isIntersecting}) {
    if (isIntersecting) this.fill(target);
    else if (target.childElementCount && !target.querySelector('.open')) {
      target.heightPx = target.offsetHeight;
      this.rowPx = target.heightPx / target.childElementCount;
      this.empty(target);
    }
  }

  fill(group) {
    if (group.childElementCount) return;
    const some = this.shown.slice(group.first, group.first + ROWS_TOGETHER);
    const rows = some.map((utterance, place) => rowElement(utterance, group.first + place, this.shown.length));
    group.style.minHeight = '';
    group.replaceChildren(...rows);
  }

  empty(group) {
    const count = Math.min(ROWS_TOGETHER, this.shown.length - group.first);
    group.style.minHeight = `${group.heightPx ?? count * this.rowPx}px`;
    group.replaceChildren();
  }

  /** Return the row of an utterance, made if it was not there; null if it is not in the list. */
  rowOf(utterance) {
    const place = this.shown.indexOf(utterance);
    if (place < 0) return null;
    const group = this.groups[Math.floor(place / ROWS_TOGETHER)];
    this.fill(group);
    return group.children[place % ROWS_TOGETHER];
  }
}

const player = new Player();
const list = new RowList(document.getElementById('list'));
const controls = Object.fromEntries(
  ['search', 'show', 'order', 'clear', 'count'].map((id) => [id, document.getElementById(id)]));
const state = {filter: null, open: null, view: null, word: -1};

/** Show the utterances that search, filter and order ask for. */
function refresh() {
  close();
  const wanted = controls.search.value.trim().toLowerCase();
  const isShown = SHOWN[controls.show.value];
  const {filter} = state;
  const rank = ORDERS[controls.order.value];
  const shown = utterances.filter((utterance) => isShown(utterance)
    && (!filter || FILTERS[filter.kind](utterance, filter.values))
    && (!wanted || searchedText(utterance).includes(wanted)));
  const ranks = new Map(shown.map((utterance) => [utterance, rank(utterance)]));
  shown.sort((one, other) => ranks.get(one) - ranks.get(other) || one.number - other.number);
  list.show(shown);
  controls.count.textContent = `${shown.length} of ${utterances.length} utterances`;
  controls.clear.hidden = !filter;
  controls.clear.textContent = filter ? `✕ ${describe(filter)}` : '';
}

function describe({kind, values}) {
  return kind === 'field' ? values.join(': ') : `${kind}: ${values.join(' → ')}`;
}

function close() {
  if (!state.open) return;
  const row = list.rowOf(state.open);
  player.close();
  state.view?.remove();
  row?.querySelector('.detail')?.remove();
  row?.classList.remove('open');
  row?.querySelector('.head').setAttribute('aria-expanded', 'false');
  showWords(row, state.open, false);
  Object.assign(state, {open: null, view: null, word: -1});
}

function showWords(row, utterance, isOpen) {
  row?.querySelector('.words').replaceChildren(
    ...utterance.words.map((_, place) => wordElement(utterance, place, isOpen)));
}

/** Open the row of an utterance; resolve when it can be played, to whether it can. */
async function open(utterance) {
  close();
  state.open = utterance;
  const row = list.rowOf(utterance);
  row.classList.add('open');
  row.querySelector('.head').setAttribute('aria-expanded', 'true');
  showWords(row, utterance, true);
  const detail = element('div', {class: 'detail'});
  row.append(detail);
  showFields(detail, utterance);
  const audio = audioOf(utterance);
  if (!audio) {
    detail.prepend(element('p', {class: 'lacks'}, 'Its audio is not in this page.'));
    return false;
  }
  state.view = new SoundView(player);
  if (utterance.posteriors) {
    const {tracks, blank, frameShiftS} = tracksOf(utterance.posteriors);
    state.view.showPosteriors(tracks, blank, frameShiftS);
  }
  row.querySelector('.words').before(state.view.element);
  return player.open(bytesOfBase64(audio.textContent));
}

function showFields(detail, utterance) {
  const fields = Object.entries(utterance.fields ?? {});
  if (!fields.length) return;
  const terms = fields.flatMap(([name, value]) => [
    element('dt', {}, element('bdi', {}, name)), element('dd', {}, element('bdi', {}, value))]);
  detail.append(element('dl', {class: 'fields'}, ...terms));
}

/** Play a word of the open utterance. */
function playWord(place) {
  const times = timesOf(state.open, place);
  if (!times) return;
  state.word = place;
  player.play(...times);
}

/** Open the utterance that is `step` places further in the list, and let its button have the focus. */
async function walk(step) {
  const place = state.open ? list.shown.indexOf(state.open) + step : step > 0 ? 0 : -1;
  const utterance = list.shown[place];
  if (!utterance) return;
  const opened = open(utterance);
  const row = list.rowOf(utterance);
  row.querySelector('.head').focus({preventScroll: true});
  row.scrollIntoView({block: 'nearest'});
  if (await opened) row.querySelector('.play').focus({preventScroll: true});
  row.scrollIntoView({block: 'nearest'});
}

/** Play the word that is `step` words further than the last one, of those that have times. */
function walkWords(step) {
  const {open: utterance} = state;
  for (let place = state.word + step; place >= 0 && place < utterance.words.length; place += step) {
    if (timesOf(utterance, place)) {
      playWord(place);
      list.rowOf(utterance).querySelectorAll('.word')[place].focus?.();
      return;
    }
  }
}

const KEYS = {
  j: () => walk(1),
  k: () => walk(-1),
  ' ': () => state.open && player.toggle(),
  ArrowLeft: () => state.open && player.durationS && walkWords(-1),
  ArrowRight: () => state.open && player.durationS && walkWords(1),
  '/': () => controls.search.focus(),
  Escape: () => {
    const head = state.open && list.rowOf(state.open)?.querySelector('.head');
    close();
    head?.focus();
  },
};

document.addEventListener('keydown', (event) => {
  const act = KEYS[event.key];
  const written = event.target.closest('input, select, textarea');
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  if (written && event.key === 'Escape') written.blur();
  if (written) return;
  if (event.key === ' ' && (!state.open || event.target.closest('button, summary, a'))) return; // they have their own
  event.preventDefault();
  act();
});

document.getElementById('list').addEventListener('click', async (event) => {
  const row = event.target.closest('.row');
  const utterance = row && utterances[row.dataset.number];
  const word = event.target.closest('.word[data-place]');
  if (event.target.closest('.head')) {
    if (state.open === utterance) close();
    else await open(utterance);
  } else if (word) {
    if (state.open === utterance || await open(utterance)) playWord(Number(word.dataset.place));
  }
});

player.addEventListener('change', () => {
  const row = state.open && list.rowOf(state.open);
  const at = player.playing ? player.positionS : -1;
  row?.querySelectorAll('.word').forEach((word, place) => {
    const [, , startS, endS] = state.open.words[place];
    word.classList.toggle('now', startS <= at && at < endS);
  });
});

document.addEventListener('click', (event) => {
  const button = event.target.closest('.filter');
  if (!button) return;
  state.filter = {kind: button.dataset.kind, values: JSON.parse(button.dataset.values)};
  refresh();
  document.getElementById('utterances').scrollIntoView();
  controls.clear.focus({preventScroll: true});
});

controls.clear.addEventListener('click', () => {
  state.filter = null;
  refresh();
  controls.search.focus();
});
controls.search.addEventListener('input', refresh);
controls.show.addEventListener('change', refresh);
controls.order.addEventListener('change', refresh);
document.querySelector('.tools').addEventListener('submit', (event) => event.preventDefault());
refresh();
