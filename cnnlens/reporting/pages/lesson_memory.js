// How kernels and maps lie in memory, and what a reshape in the place of a transpose draws.

import { el } from "./dom.js";
import { number } from "./format.js";
import { options, typed, ordered } from "./lesson_exercise.js";
import { tile } from "./lesson_parts.js";
import { addressTask, strips } from "./lesson_strip.js";
import { unpack } from "./unpack.js";

const FRAMEWORKS = { Keras: "HWIO", PyTorch: "OIHW" };

export function memoryChapter(tell, chapter) {
  let values = null;
  const drawn = strips(chapter, tell, {
    colour: "O", name: ["kernel", "weight"], value: (address) => (values === null ? "" : number(values[address])),
  });
  unpack(chapter.values).then((found) => { values = found.values; drawn.again(); });
  return {
    figures: [{ element: drawn.element, caption: tell("caption") }],
    tasks: {
      address: (random) => addressTask(chapter.cases, random, {
        typed, question: ({ layout, shape, entry }) => tell("address.q", { layout, shape, index: entry }),
      }),
      order: (random) => orderTask(tell, random),
    },
  };
}

function orderTask(tell, random) {
  const framework = random.pick(Object.keys(FRAMEWORKS));
  const other = Object.keys(FRAMEWORKS).find((one) => one !== framework);
  const layout = FRAMEWORKS[framework];
  return {
    again: true,
    question: tell("order.q", { framework }),
    input: ordered(random.shuffled([...layout])),
    check: (value) => {
      const places = { framework, other, layout, value, first: layout[0], last: layout.at(-1) };
      if (value === layout) return { right: true, why: tell("order.right", places) };
      const reversed = value === [...layout].reverse().join("");
      const why = value === FRAMEWORKS[other] ? "other" : reversed ? "reversed" : "none";
      return { right: false, why: tell(`order.${why}`, places) };
    },
  };
}

export function mapsChapter(tell, chapter) {
  const { element } = strips(chapter, tell, { colour: "C", name: ["maps", "maps"] });
  return {
    figures: [
      { element, caption: tell("caption") },
      { element: el("div", { className: "columns" }, ...chapter.readings.map((one) => mapsRead(one, chapter.limits))), caption: tell("caption_pictures") },
    ],
    tasks: {
      step: (random) => stepTask(tell, chapter.cases, random),
      torch: (random) => ({
        question: tell("torch.q"),
        input: options(random.shuffled(["shape", "memory", "values", "kernel"]).map((key) => ({
          label: tell(`torch.${key}`), right: key === "memory", why: tell(`torch.${key}.why`),
        }))),
        check: (option) => option,
      }),
    },
  };
}

function mapsRead({ code, array }, limits) {
  const row = el("div", { className: "tiles trio" });
  unpack(array).then(({ values, shape: [, height, width] }) => row.append(
    ...limits.map((ends, channel) => tile(values, channel * height * width, [height, width], ends, "activations", 112)),
  ));
  return el("div", {}, row, el("p", { className: "label" }, el("code", {}, code.replace("maps = ", ""))));
}

function stepTask(tell, cases, random) {
  const { sizes, steps } = random.pick(cases);
  const layout = random.pick(Object.keys(steps));
  const other = Object.keys(steps).find((one) => one !== layout);
  const letter = random.pick(["H", "W", "C"]);
  const answer = steps[layout][letter];
  const behind = [...layout].slice(layout.indexOf(letter) + 1);
  return {
    again: true,
    question: tell("step.q", { layout, shape: `(${[...layout].map((one) => sizes[one]).join(", ")})`, way: tell(`step.${letter}`) }),
    input: typed(),
    check: (value) => {
      const places = { value, layout, other, letter, answer, behind: behind.map((one) => `${one} = ${sizes[one]}`).join(", ") };
      if (value === answer) return { right: true, why: tell(behind.length ? "step.right" : "step.last", places) };
      const taken = Object.keys(steps[layout]).find((one) => steps[layout][one] === value);
      if (value === steps[other][letter]) return { right: false, why: tell("step.layout", places) };
      return { right: false, why: taken ? tell("step.letter", { ...places, letter: taken }) : tell("step.other", places) };
    },
  };
}
