// Texts of the lesson: paragraphs with `code`, **strong** and *stressed* words, made into elements.

import { data, el, say } from "./dom.js";

const MARKS = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*/g;

// What says the words of a chapter, its numbers filled in.
export const sayer = (chapter) => (key, places = {}) =>
  say(`lesson.${chapter}.${key}`, { ...data.chapters[chapter].places, ...places });

export const prose = (text, className = "") =>
  text.split("\n\n").map((part) => el("p", { className }, ...inline(part)));

export function inline(text) {
  const found = [];
  let from = 0;
  text = text.replace(/(\d)( ×|,) (?=\d)/g, "$1$2\u00a0").replace(/ ×\u00a0/g, "\u00a0×\u00a0"); // 28 × 28, (3, 3) stay whole
  for (const match of text.matchAll(MARKS)) {
    found.push(text.slice(from, match.index));
    const [, code, strong, stressed] = match;
    found.push(el(code ? "code" : strong ? "strong" : "em", {}, code ?? strong ?? stressed));
    from = match.index + match[0].length;
  }
  return [...found, text.slice(from)].filter((part) => part !== "");
}
