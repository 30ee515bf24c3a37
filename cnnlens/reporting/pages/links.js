// Links to places of the page. What is drawn as it comes near is higher or lower then than it was before: the place that
// was asked for is held until all that is near is drawn, or the reader moves. In a notebook's frame, which has no address
// of its own, the browser takes the links for links to the notebook and leaves the page; there they are followed here.

import { settled } from "./dom.js";

const MOVES = ["wheel", "touchmove", "pointerdown", "keydown"]; // a reader's

export function startLinks() {
  let held = null;
  const hold = (hash) => {
    const mine = held = document.getElementById(hash.slice(1));
    if (mine !== null) settled(() => { if (held === mine) mine.scrollIntoView({ behavior: "instant" }); });
  };
  for (const move of MOVES) addEventListener(move, () => { held = null; }, { capture: true, passive: true });
  addEventListener("hashchange", () => hold(location.hash));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link === null) return;
    if (location.protocol === "about:") event.preventDefault();
    hold(link.getAttribute("href"));
  });
  hold(location.hash);
}
