'use strict';
// The words of a transcript, coloured by confidence: a click on one plays the recording from there. Its style is in
// words_view.css.
//
// How a page uses it:
//   const view = new WordsView(audio);  // an <audio> element that has the recording; view.element is its place
//   view.add(words);                    // [{text, start_s, end_s, confidence, space_before}, …], as in transcripts' JSON;
//                                       // words may follow while a recording is transcribed
//   view.showPartial(text);             // what may still change, after the words; '' for nothing
//   view.clear();
//
// The words are one stop of the tab key, and arrow keys lead from one to the next.

const SURE = 0.95; // a word has no colour from here on
const DOUBTFUL = 0.5; // below this it is underlined too, for those who see no colour
const DARKEST = 0.6; // how much the colour of a word with confidence 0 covers

class WordsView {
  constructor(audio) {
    this.audio = audio;
    this.partial = document.createElement('span');
    this.partial.className = 'partial';
    this.element = document.createElement('div');
    this.element.className = 'words';
    this.element.dir = 'auto';
    this.element.setAttribute('role', 'group');
    this.element.setAttribute('aria-label', 'Transcript');
    this.clear();
    for (const event of ['timeupdate', 'pause', 'ended', 'emptied']) {
      audio.addEventListener(event, () => this.markHeard());
    }
  }

  clear() {
    this.buttons = [];
    this.starts = [];
    this.heard = null;
    this.showPartial('');
    this.element.replaceChildren(this.partial);
  }

  add(words) {
    for (const word of words) {
      const button = this.buttonOf(word, this.buttons.length);
      if (this.buttons.length && word.space_before !== false) this.partial.before(' ');
      this.partial.before(button);
      this.buttons.push(button);
      this.starts.push(word.start_s);
    }
  }

  showPartial(text) {
    this.partial.textContent = text && ` ${text}`;
  }

  buttonOf(word, number) {
    const button = document.createElement('button');
    const facts = `${word.start_s.toFixed(2)}–${word.end_s.toFixed(2)} s, confidence ${Math.round(100 * word.confidence)} %`;
    button.type = 'button';
    button.textContent = word.text;
    button.title = facts;
    button.setAttribute('aria-label', `${word.text}, ${facts}`);
    button.tabIndex = number ? -1 : 0;
    if (word.confidence < SURE) {
      button.style.backgroundColor = `rgba(230, 140, 0, ${(DARKEST * (1 - word.confidence)).toFixed(2)})`;
    }
    button.classList.toggle('doubtful', word.confidence < DOUBTFUL);
    button.addEventListener('click', () => this.play(number));
    button.addEventListener('keydown', (event) => this.onKey(event, number));
    return button;
  }

  play(number) {
    this.audio.currentTime = this.starts[number];
    this.audio.play().catch(() => {}); // another click came before this one's sound
  }

  onKey(event, number) {
    const fromRight = getComputedStyle(this.element).direction === 'rtl';
    const steps = {ArrowRight: fromRight ? -1 : 1, ArrowLeft: fromRight ? 1 : -1};
    const next = this.buttons[number + steps[event.key]];
    if (!next) return;
    this.buttons[number].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
  }

  /** Frame the word that is heard. */
  markHeard() {
    const begun = this.starts.filter((startS) => startS <= this.audio.currentTime + 0.05).length;
    const now = (!this.audio.paused && this.buttons[begun - 1]) || null;
    if (now === this.heard) return;
    this.heard?.classList.remove('heard');
    now?.classList.add('heard');
    this.heard = now;
  }
}
