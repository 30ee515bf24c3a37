// What the reader has chosen, which several parts of the page follow.

const followers = new Set();

export const chosen = { example: 0 };

export function follow(run) {
  followers.add(run);
}

export function choose(example) {
  if (example === chosen.example) return;
  chosen.example = example;
  for (const run of followers) run();
}
