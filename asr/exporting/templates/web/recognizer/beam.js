// Log-posteriors → the most probable token sequences; asr/decoding/beam.py and prefixes.py explain the search.
//
// Here it is of one utterance, with a loop over prefixes. A prefix is a node of a tree, so equal ones are one node.

import {BLANK} from './align.js';
import {decode} from './words.js';

/**
 * Return hypotheses {tokens, score}, best first; no two spell the same text.
 *
 * options: `search` of model.json; scorer: a `TokenNgram`, or null; texts: of `tokenTexts`.
 */
export function beamSearch({data, frames, size}, options, scorer, texts) {
  const used = options.lm_weight > 0 ? scorer : null;
  const search = {size, weight: options.lm_weight, scorer: used, bonus: options.insertion_bonus, most: options.beam_size};
  const root = {token: BLANK, parent: null, children: new Map()};
  let beam = [{node: root, inBlank: 0, inToken: -Infinity, mass: 0, gain: 0, state: used ? used.start : 0}];
  const floor = options.token_floor > 0 ? Math.log(options.token_floor) : -Infinity;
  for (let frame = 0; frame < frames; frame += 1) {
    const logs = data.subarray(frame * size, (frame + 1) * size);
    if (options.blank_skip < 1 && logs[BLANK] > Math.log(options.blank_skip)) {
      beam = beam.map((prefix) => afterBlank(prefix, logs[BLANK]));
    } else {
      beam = throughFrame(beam, logs, floor, search);
    }
  }
  const hypotheses = beam.map(({node, mass, gain, state}) => ({
    tokens: tokensOf(node),
    score: mass + gain + (used ? search.weight * used.score(state, BLANK) : 0),
  }));
  return merged(hypotheses.sort((one, other) => other.score - one.score), texts);
}

/** Return a prefix after a frame that is taken as blank. */
function afterBlank(prefix, logBlank) {
  const mass = prefix.mass + logBlank;
  return {...prefix, mass, inBlank: mass, inToken: -Infinity};
}

/** Return the best prefixes after a frame. */
function throughFrame(beam, logs, floor, {size, weight, scorer, bonus, most}) {
  const slots = new Map(beam.map((prefix, slot) => [prefix.node, slot]));
  const gains = new Float64Array(beam.length * size);
  const ranks = new Float64Array(beam.length * size).fill(-Infinity);
  beam.forEach(({node, mass, inBlank, gain, state}, slot) => {
    for (let token = 1; token < size; token += 1) {
      if (!(logs[token] > floor)) continue;
      const move = slot * size + token;
      gains[move] = bonus + (scorer ? weight * scorer.score(state, token) : 0);
      // By its own last token, only the paths that end in a blank extend a prefix.
      const from = token === node.token ? inBlank : mass;
      ranks[move] = from + gain + logs[token] + gains[move];
    }
  });
  const arrivals = beam.map(({node, gain}) => {
    const parent = node.parent ? slots.get(node.parent) : undefined;
    if (parent === undefined) return -Infinity;
    const move = parent * size + node.token;
    const arriving = ranks[move] - gain;
    ranks[move] = -Infinity;
    return arriving;
  });
  const stays = beam.map((prefix, slot) => {
    const inBlank = prefix.mass + logs[BLANK];
    const inToken = logAddExp(prefix.inToken + logs[prefix.node.token], arrivals[slot]);
    const mass = logAddExp(inBlank, inToken);
    ranks[slot * size] = mass + prefix.gain;
    return {...prefix, inBlank, inToken, mass};
  });
  return greatest(ranks, most).map((move) => {
    const [slot, token] = [Math.floor(move / size), move % size];
    if (token === BLANK) return stays[slot];
    const before = beam[slot];
    const gain = before.gain + gains[move];
    const mass = ranks[move] - gain;
    const state = scorer ? scorer.after(before.state, token) : 0;
    return {node: child(before.node, token), inBlank: -Infinity, inToken: mass, mass, gain, state};
  });
}

/** Return the places of the greatest values, the greatest first, without −Infinity. */
function greatest(values, most) {
  const places = [];
  for (let place = 0; place < values.length; place += 1) {
    const value = values[place];
    if (value === -Infinity || (places.length === most && value <= values[places.at(-1)])) continue;
    let at = places.length;
    while (at && values[places[at - 1]] < value) at -= 1;
    places.splice(at, 0, place);
    if (places.length > most) places.pop();
  }
  return places;
}

function child(node, token) {
  if (!node.children.has(token)) node.children.set(token, {token, parent: node, children: new Map()});
  return node.children.get(token);
}

function tokensOf(node) {
  const tokens = [];
  for (let at = node; at.parent; at = at.parent) tokens.push(at.token);
  return tokens.reverse();
}

/** Return hypotheses of which no two spell the same text: their probabilities are summed. */
function merged(hypotheses, texts) {
  const byText = new Map();
  for (const hypothesis of hypotheses) {
    const text = decode(hypothesis.tokens, texts);
    const first = byText.get(text);
    if (first) first.score = logAddExp(first.score, hypothesis.score);
    else byText.set(text, {...hypothesis});
  }
  return [...byText.values()].sort((one, other) => other.score - one.score);
}

function logAddExp(one, other) {
  const most = Math.max(one, other);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(Math.min(one, other) - most));
}
