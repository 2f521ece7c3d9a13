// The bytes of an ARPA file over tokens → a scorer of the beam search; `TokenNgramScorer` in
// asr/decoding/ngram_scorer.py explains the tables.

import {BLANK} from './align.js';

const LN_10 = Math.log(10);
const LOG10_ZERO = -99;
const [START, END, UNKNOWN] = ['<s>', '</s>', '<unk>'];

/** A back-off n-gram as two tables (state, token): log-probabilities, with that of the sentence's end at 0; next states. */
export class TokenNgram {
  /** orders: of `readArpa`; tokens: the symbols of the model. */
  constructor(orders, tokens) {
    const column = new Map([[END, BLANK]]);
    tokens.slice(1).forEach((token, place) => column.set(token === ' ' ? '\u2581' : token, place + 1));
    column.set(UNKNOWN, tokens.length);
    this.size = tokens.length;
    const states = statesOf(orders);
    this.start = states.get(START) ?? 0;
    const width = tokens.length + 1;
    const scores = new Float32Array(states.size * width).fill(LN_10 * LOG10_ZERO);
    const next = new Int32Array(states.size * width);
    orders.forEach((ngrams, length) => {
      if (length) backOff(orders[length - 1], states, width, scores, next);
      list(ngrams, states, column, width, scores, next);
    });
    const known = [...column.keys()].slice(0, this.size).map((unit) => column.get(orders[0].has(unit) ? unit : UNKNOWN));
    this.scores = new Float32Array(states.size * this.size);
    this.next = new Int32Array(states.size * this.size);
    for (let state = 0; state < states.size; state += 1) {
      known.forEach((from, token) => {
        this.scores[state * this.size + token] = scores[state * width + from];
        this.next[state * this.size + token] = next[state * width + from];
      });
    }
  }

  score(state, token) {
    return this.scores[state * this.size + token];
  }

  after(state, token) {
    return this.next[state * this.size + token];
  }
}

/** Return the number of each context: 0 is the empty one, and shorter ones come before longer ones. */
function statesOf(orders) {
  const states = new Map([['', 0]]);
  for (const ngrams of orders.slice(0, -1)) {
    for (const ngram of ngrams.keys()) if (lastOf(ngram) !== END) states.set(ngram, states.size);
  }
  return states;
}

/** Fill the rows of contexts with those of the longest shorter ones, and their weights. */
function backOff(ngrams, states, width, scores, next) {
  for (const [context, {backoff}] of ngrams) {
    const state = states.get(context);
    if (state === undefined) continue;
    const shorter = longestSuffix(restOf(context), states);
    const weight = Math.fround(LN_10 * backoff);
    for (let token = 0; token < width; token += 1) {
      scores[state * width + token] = scores[shorter * width + token] + weight;
      next[state * width + token] = next[shorter * width + token];
    }
  }
}

/** Write what the model lists over what back-off has found. */
function list(ngrams, states, column, width, scores, next) {
  for (const [ngram, {logProbability}] of ngrams) {
    const [state, token] = [states.get(contextOf(ngram)), column.get(lastOf(ngram))];
    if (state === undefined || token === undefined) continue; // `<s>` is never predicted, and nothing follows `</s>`
    scores[state * width + token] = LN_10 * logProbability;
    if (states.has(ngram)) next[state * width + token] = states.get(ngram);
  }
}

function longestSuffix(ngram, states) {
  let rest = ngram;
  while (!states.has(rest)) rest = restOf(rest);
  return states.get(rest);
}

const lastOf = (ngram) => ngram.slice(ngram.lastIndexOf(' ') + 1);
const contextOf = (ngram) => ngram.slice(0, Math.max(ngram.lastIndexOf(' '), 0));
const restOf = (ngram) => ngram.includes(' ') ? ngram.slice(ngram.indexOf(' ') + 1) : '';

/** Return for each order a map from an n-gram, with spaces between, to {logProbability, backoff}, logarithms to 10. */
export function readArpa(text) {
  const orders = [];
  for (const line of text.split('\n')) {
    const section = /^\\(\d+)-grams:/.exec(line);
    if (section) orders[section[1] - 1] = new Map();
    else if (orders.length && line.includes('\t')) {
      const [logProbability, ngram, backoff] = line.trim().split('\t');
      orders.at(-1).set(ngram, {logProbability: Number(logProbability), backoff: Number(backoff ?? 0)});
    }
  }
  return orders;
}
