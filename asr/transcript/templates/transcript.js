// A click on a word plays the recording from there; the word that is heard is framed. The words are one stop of the
// tab key, and arrow keys lead from one to the next. Each script sets up all transcripts on the page that wait for one:
// notebooks run scripts in places from which a script does not find its own output.
(() => {
  'use strict';

  function setUp(transcript) {
    transcript.dataset.ready = '';
    const player = transcript.querySelector('audio');
    const words = [...transcript.querySelectorAll('[data-start]')];
    if (!player || !words.length) {
      return;
    }
    const starts = words.map((word) => Number(word.dataset.start));
    const fromRight = getComputedStyle(words[0]).direction === 'rtl';
    const steps = {ArrowRight: fromRight ? -1 : 1, ArrowLeft: fromRight ? 1 : -1};
    let heard = null;

    function play(number) {
      player.currentTime = starts[number];
      player.play().catch(() => {}); // another click came before this one's sound
    }

    function moveFocus(from, to) {
      words[from].tabIndex = -1;
      words[to].tabIndex = 0;
      words[to].focus();
    }

    function onKey(event, number) {
      const next = number + (steps[event.key] ?? 0);
      if (event.key === 'Enter' || event.key === ' ') {
        play(number);
      } else if (next !== number && words[next]) {
        moveFocus(number, next);
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation(); // the notebook has meanings of its own for these keys
    }

    function frameWord() {
      const begun = starts.filter((start_s) => start_s <= player.currentTime + 0.05).length;
      const now = (!player.paused && words[begun - 1]) || null;
      if (now === heard) {
        return;
      }
      heard?.style.removeProperty('outline');
      now?.style.setProperty('outline', '2px solid');
      heard = now;
    }

    words.forEach((word, number) => {
      word.setAttribute('role', 'button');
      word.setAttribute('aria-label', `${word.textContent}, ${word.title}`);
      word.tabIndex = number ? -1 : 0;
      word.style.cursor = 'pointer';
      word.addEventListener('click', () => play(number));
      word.addEventListener('keydown', (event) => onKey(event, number));
    });
    for (const event of ['timeupdate', 'pause', 'ended']) {
      player.addEventListener(event, frameWord);
    }
  }

  document.querySelectorAll('.asr-transcript:not([data-ready])').forEach(setUp);
})();
