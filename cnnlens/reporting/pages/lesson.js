// Draws the lesson: nine chapters, each a text, figures and exercises, and a list of them with what is solved.

import { data, el, say } from "./dom.js";
import { whole } from "./format.js";
import { depthChapter } from "./lesson_depth.js";
import { exercise } from "./lesson_exercise.js";
import { flattenChapter } from "./lesson_flatten.js";
import { kernelChapter } from "./lesson_kernel.js";
import { mapsChapter, memoryChapter } from "./lesson_memory.js";
import { mistakesChapter } from "./lesson_mistakes.js";
import { paddingChapter } from "./lesson_padding.js";
import { inline, prose, sayer } from "./lesson_prose.js";
import { roundingChapter } from "./lesson_rounding.js";
import { untrainedChapter } from "./lesson_untrained.js";
import { startPrint } from "./print.js";
import { startTheme } from "./theme.js";

const CHAPTERS = {
  kernel: kernelChapter, memory: memoryChapter, maps: mapsChapter, mistakes: mistakesChapter, flatten: flattenChapter,
  padding: paddingChapter, untrained: untrainedChapter, depth: depthChapter, rounding: roundingChapter,
};
const solved = new Set();
const exercises = {};

startTheme();
startPrint();
document.title = `${say("lesson.title")} \u2013 cnnlens`;
const main = document.getElementById("main");
document.getElementById("top").append(...prose(say("lesson.sample", { parameters: whole(data.model.parameters) }), "note"));
Object.entries(CHAPTERS).forEach(([name, chapter], place) => main.append(sectionOf(name, chapter, place + 1)));
main.append(el(
  "section", { id: "further", className: "chapter" }, el("h2", {}, say("lesson.further")), ...prose(say("lesson.further_text")),
));
markProgress();

function sectionOf(name, chapter, number) {
  const tell = sayer(name);
  const { figures, tasks } = chapter(tell, data.chapters[name]);
  const title = el("h2", { id: `${name}-title` }, el("span", { className: "number" }, String(number)), " ", ...inline(tell("title")));
  exercises[name] = Object.entries(tasks).map(([task, ask], place) => {
    const id = `${name}-${task}`;
    return exercise(id, place + 1, ask, number * 100 + place, () => { solved.add(id); markProgress(); });
  });
  const link = el("a", { href: `#${name}` }, el("span", {}, ...inline(tell("title"))), el("span", { className: "marks", id: `marks-${name}` }));
  document.getElementById("chapters").append(el("li", {}, link));
  return el(
    "section", { id: name, className: "chapter", attributes: { "aria-labelledby": title.id } },
    title, ...prose(tell("text")),
    ...figures.map(({ element, caption }) => el("figure", { className: "shown" }, element, el("figcaption", {}, ...prose(caption)))),
    ...prose(tell("after")), ...exercises[name],
  );
}

function markProgress() {
  const all = Object.values(exercises).flat();
  const done = solved.size;
  document.getElementById("progress").textContent = say("lesson.progress", { done, count: all.length });
  for (const [name, some] of Object.entries(exercises)) {
    const count = some.filter(({ id }) => solved.has(id)).length;
    const marks = document.getElementById(`marks-${name}`);
    marks.textContent = " " + "\u25cf".repeat(count) + "\u25cb".repeat(some.length - count);
    marks.setAttribute("aria-label", say("lesson.progress", { done: count, count: some.length }));
    marks.setAttribute("role", "img");
  }
}
