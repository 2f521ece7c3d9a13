// Log-posteriors → tokens and their frames: the simple search, and forced alignment.
//
// Log-posteriors are {data, frames, size}: data[frame * size + token], natural logs; token 0 is the blank.

export const BLANK = 0;

/** Return the hypothesis {tokens, score} of the most probable path; asr/decoding/greedy.py explains it. */
export function greedySearch({data, frames, size}) {
  const tokens = [];
  let [score, before] = [0, BLANK];
  for (let frame = 0; frame < frames; frame += 1) {
    let best = 0;
    for (let token = 1; token < size; token += 1) {
      if (data[frame * size + token] > data[frame * size + best]) best = token;
    }
    if (best !== BLANK && best !== before) tokens.push(best);
    score += data[frame * size + best];
    before = best;
  }
  return {tokens, score};
}

/**
 * Return the frames of each token on the best path that spells `tokens`, as {token, start, end, probability}; `end` is
 * exclusive, and the probability is the token's highest there. asr/decoding/align.py explains it.
 */
export function align(logPosteriors, tokens) {
  if (!tokens.length) return [];
  const path = viterbi(logPosteriors, tokens);
  const {data, size} = logPosteriors;
  const spans = [];
  path.forEach((state, frame) => {
    if (state % 2 === 0) return; // a blank
    const value = data[frame * size + tokens[(state - 1) / 2]];
    if (path[frame - 1] === state) {
      const span = spans.at(-1);
      span.end = frame + 1;
      span.best = Math.max(span.best, value);
    } else {
      spans.push({token: tokens[(state - 1) / 2], start: frame, end: frame + 1, best: value});
    }
  });
  return spans.map(({best, ...span}) => ({...span, probability: Math.min(Math.exp(best), 1)}));
}

/** Return the state of each frame on the best path through blank, token 0, blank, token 1, …, blank. */
function viterbi({data, frames, size}, tokens) {
  const states = 2 * tokens.length + 1;
  const tokenOf = (state) => state % 2 ? tokens[(state - 1) / 2] : BLANK;
  const leaps = Array.from({length: states}, (_, state) => state >= 3 && state % 2 === 1
    && tokenOf(state) !== tokenOf(state - 2));
  const steps = new Uint8Array(frames * states); // by how many states the path moved on
  let score = new Float64Array(states).fill(-Infinity);
  score[0] = data[BLANK];
  score[1] = data[tokens[0]];
  for (let frame = 1; frame < frames; frame += 1) {
    const next = new Float64Array(states);
    for (let state = 0; state < states; state += 1) {
      let [best, step] = [score[state], 0];
      if (state >= 1 && score[state - 1] > best) [best, step] = [score[state - 1], 1];
      if (leaps[state] && score[state - 2] > best) [best, step] = [score[state - 2], 2];
      next[state] = best + data[frame * size + tokenOf(state)];
      steps[frame * states + state] = step;
    }
    score = next;
  }
  let state = states - (score[states - 1] >= score[states - 2] ? 1 : 2);
  const path = new Array(frames);
  for (let frame = frames - 1; frame >= 0; frame -= 1) {
    path[frame] = state;
    state -= steps[frame * states + state];
  }
  return path;
}
