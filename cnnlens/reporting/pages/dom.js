// Elements of the page, made of names and texts: what a model's file says comes in as text alone.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const data = read("data");
export const words = read("words");

// The page's words for a key, with its {places} filled in.
export function say(key, places = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => String(places[name]));
}

// An element with properties, attributes (in `attributes`) and children: elements, or text.
export function el(tag, { attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// What the package says in its own words, which are English on every page.
export const said = (text) => el("span", document.documentElement.lang === "en" ? {} : { lang: "en" }, text);

// The same of an SVG's element, whose all is attributes.
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const waiting = new Map(); // what runs when an element comes near, by the element

// Calls `run` once, when the element comes near what is seen.
export function whenNear(element, run, margin = "600px 0px") {
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      waiting.delete(element);
      run();
    }
  }, { rootMargin: margin });
  observer.observe(element);
  waiting.set(element, { observer, run });
}

// Does now all that waits to come near, and what that in turn has waiting.
export async function drawAll() {
  for (let idle = 0; idle < 2;) {
    await new Promise(requestAnimationFrame);
    const some = [...waiting];
    waiting.clear();
    idle = some.length ? 0 : idle + 1;
    for (const [, { observer }] of some) observer.disconnect();
    await Promise.all(some.map(([element, { run }]) => element.isConnected && run()));
  }
}
