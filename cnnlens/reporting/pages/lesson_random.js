// Numbers by chance that are the same for all who open the page, so that a class solves the same exercise first.

export function randomOf(seed) {
  let state = seed;
  const next = () => { // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const whole = (low, high) => low + Math.floor(next() * (high - low + 1));
  const pick = (list) => list[whole(0, list.length - 1)];
  const shuffled = (list) => {
    const left = [...list];
    return list.map(() => left.splice(whole(0, left.length - 1), 1)[0]);
  };
  return { whole, pick, shuffled };
}
