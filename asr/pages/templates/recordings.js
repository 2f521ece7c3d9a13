'use strict';
// A recording on the page: its name, its sound, its words and its files to save. It needs element.js before it.
//
//   const recording = new Recording('talk.wav');      // recording.element is its place
//   recording.state('Transcribing…'); recording.fail('a sentence');
//   recording.listen(blob);                           // gives it a player
//   recording.add(words); recording.guess(text);      // words: {text, space_before, start_s, end_s, confidence}
//   recording.finish(durationS);                      // it is complete: files can be saved
//   recording.onsave = (format) => …; recording.onremove = () => …;

const SURE = 0.95; // a word has no mark from here on
const DOUBTFUL = 0.5;
const SAVED = {txt: 'Text', srt: 'Subtitles .srt', vtt: 'Subtitles .vtt', json: 'JSON'};

function button(text, onclick, attributes = {}) {
  const made = element('button', {type: 'button', ...attributes}, text);
  made.addEventListener('click', onclick);
  return made;
}

class Recording {
  constructor(name) {
    this.name = name;
    this.words = [];
    this.durationS = 0;
    this.onsave = this.onremove = () => {};
    this.status = element('p', {class: 'state', role: 'status'});
    this.player = element('audio', {controls: true, preload: 'metadata', hidden: true, 'aria-label': `Sound of ${name}`});
    this.open = element('span', {class: 'guess'});
    this.text = element('p', {class: 'words', dir: 'auto'}, this.open);
    this.files = element('p', {class: 'files', hidden: true});
    for (const [format, label] of Object.entries(SAVED)) {
      this.files.append(button(label, () => this.onsave(format), {'aria-label': `Save ${label} of ${name}`}));
    }
    const title = element('h2', {}, element('bdi', {}, name));
    const remove = button('Remove', () => this.onremove(), {'aria-label': `Remove ${name}`});
    const head = element('div', {class: 'head'}, title, remove);
    this.element = element('section', {class: 'recording', 'aria-label': name});
    this.element.append(head, this.status, this.player, this.text, this.files);
    this.text.addEventListener('click', ({target}) => this.play(this.marks.indexOf(target)));
    this.text.addEventListener('keydown', (event) => this.key(event));
    for (const event of ['timeupdate', 'pause', 'ended']) this.player.addEventListener(event, () => this.follow());
    this.marks = []; // the elements of the words
  }

  state(text) {
    this.status.textContent = text;
  }

  fail(sentence) {
    this.guess('');
    this.element.classList.add('failed');
    this.state(sentence);
  }

  listen(blob) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.sound = blob;
    this.url = URL.createObjectURL(blob);
    this.player.src = this.url;
    this.player.hidden = false;
  }

  add(words) {
    this.guess('');
    for (const word of words) {
      const space = this.words.length && word.space_before !== false ? ' ' : '';
      const mark = wordElement(word, this.marks.length === 0);
      this.open.before(space, mark);
      this.words.push(word);
      this.marks.push(mark);
    }
  }

  /** Show what is said so far in the utterance that has not ended. */
  guess(text) {
    this.open.textContent = text && this.words.length ? ` ${text}` : text;
  }

  finish(durationS) {
    this.guess('');
    this.durationS = durationS;
    this.files.hidden = false;
    const sure = this.words.filter((word) => word.confidence >= SURE).length;
    const words = this.words.length === 1 ? '1 word' : `${this.words.length} words`;
    this.state(this.words.length ? `${durationS.toFixed(1)} s, ${words}, ${sure} of them sure` : 'No words were heard.');
  }

  close() {
    this.player.pause();
    if (this.url) URL.revokeObjectURL(this.url);
    this.element.remove();
  }

  play(number) {
    if (number < 0 || this.player.hidden) return;
    this.focus(number);
    this.player.currentTime = this.words[number].start_s;
    this.player.play().catch(() => this.state('The browser cannot play this file.'));
  }

  /** All words are one stop of the tab key; arrow keys lead from one to the next. */
  key(event) {
    const number = this.marks.indexOf(event.target);
    const forward = getComputedStyle(this.text).direction === 'rtl' ? -1 : 1;
    const next = number + ({ArrowRight: forward, ArrowLeft: -forward}[event.key] ?? 0);
    if (event.key === 'Enter' || event.key === ' ') this.play(number);
    else if (next !== number && this.marks[next]) this.focus(next);
    else return;
    event.preventDefault();
  }

  focus(number) {
    this.marks.forEach((mark) => (mark.tabIndex = -1));
    this.marks[number].tabIndex = 0;
    this.marks[number].focus();
  }

  /** Frame the word that is heard. */
  follow() {
    const begun = this.words.filter((word) => word.start_s <= this.player.currentTime + 0.05).length;
    this.marks.forEach((mark, number) => mark.classList.toggle('heard', !this.player.paused && number === begun - 1));
  }
}

function wordElement(word, isFirst) {
  const percent = `${Math.round(100 * word.confidence)} %`;
  const mark = element('span', {role: 'button', tabindex: isFirst ? 0 : -1}, word.text);
  mark.title = `${word.start_s.toFixed(2)}–${word.end_s.toFixed(2)} s, confidence ${percent}`;
  mark.setAttribute('aria-label', `${word.text}, ${percent} sure`);
  if (word.confidence < SURE) mark.className = word.confidence < DOUBTFUL ? 'unsure' : 'doubtful';
  return mark;
}
