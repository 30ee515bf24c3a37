// Elements of the page, made of names and texts: what a model's file says comes in as text alone.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const data = read("data");
export const words = read("words");

// What would be obeyed or not be seen, such as a name's order to write from right to left, as the commands print it.
const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
export const harmless = (text) => text.replace(HIDDEN, (hidden) => {
  const code = hidden.codePointAt(0);
  const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return `\\${letter}${code.toString(16).padStart(digits, "0")}`;
});

// The page's words for a key, with its {places} filled in.
export function say(key, places = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => harmless(String(places[name])));
}

// An element with properties, attributes (in `attributes`) and children: elements, or text.
export function el(tag, { attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  const there = children.filter((child) => child !== null && child !== undefined);
  made.append(...there.map((child) => (typeof child === "string" ? harmless(child) : child)));
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

const waiting = new Map(); // what begins when an element comes near, by the element
const running = new Set(); // what has begun: promises

// Calls `run` once, when the element comes near what is seen.
export function whenNear(element, run, margin = "600px 0px") {
  const begin = () => {
    observer.disconnect();
    waiting.delete(element);
    if (!element.isConnected) return;
    const done = Promise.resolve(run()).finally(() => running.delete(done));
    running.add(done);
  };
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) begin();
  }, { rootMargin: margin });
  observer.observe(element);
  waiting.set(element, begin);
}

// Calls `each` before every picture of the page until nothing is being drawn.
export async function settled(each) {
  for (let idle = 0; idle < 3;) {
    await new Promise(requestAnimationFrame);
    each();
    idle = running.size ? 0 : idle + 1;
  }
}

// Does now all that waits to come near, and what that in turn has waiting.
export const drawAll = () => settled(() => [...waiting.values()].forEach((begin) => begin()));
