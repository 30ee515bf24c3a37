// An array as it lies in memory, once under each layout: cells in one long row, folded where a letter begins anew.

import { el, say } from "./dom.js";
import { switchOf } from "./lesson_parts.js";
import { picker } from "./picker.js";

const FRAMEWORKS = ["Keras", "PyTorch"];

// What draws `layouts` of the data; `value(address)` says what stands at an address of the first one.
export function strips({ layouts, sizes }, tell, { value = null, colour, name }) {
  const letters = Object.keys(sizes).filter((letter) => sizes[letter] > 1);
  const first = layouts[0];
  const indexOf = (layout, address) =>
    Object.fromEntries(Object.entries(layout.indices).map(([letter, index]) => [letter, index[address]]));
  const addressOf = (layout, index) =>
    Object.entries(index).reduce((sum, [letter, place]) => sum + place * layout.steps[letter], 0);
  const named = (index) => letters.map((letter) => `${say(`lesson.memory.${letter}`)} ${index[letter]}`).join(", ");
  const readout = el("dl", { className: "where", attributes: { "aria-live": "polite" } });
  const drawn = layouts.map((layout, side) => {
    const count = layout.indices[layout.layout[0]].length;
    const columns = layout.steps[layout.layout[1]];
    const cells = Array.from({ length: count }, (_, address) =>
      el("span", {}, String(addressOf(first, indexOf(layout, address)))));
    const element = el("div", { className: "strip" }, ...cells);
    element.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    element.style.maxWidth = `${columns * 3}rem`;
    const says = (address) => named(indexOf(layout, address));
    const pick = picker(element, {
      label: say("lesson.memory.strip", { layout: layout.layout }), count, columns: () => columns, says, hover: false,
      at: (x, y) => {
        const [across, down] = [columns / element.clientWidth, count / columns / element.clientHeight];
        return Math.floor(y * down) * columns + Math.min(columns - 1, Math.floor(x * across));
      },
      show: (address) => show(indexOf(layout, address)),
    });
    const title = el("p", { className: "label" }, `${FRAMEWORKS[side]} `, el("code", {}, layout.layout), ` (${layout.shape.join(", ")})`);
    return { layout, cells, pick, block: el("div", {}, title, element) };
  });
  const show = (index) => {
    const lines = drawn.map(({ layout, cells, pick }, side) => {
      const address = addressOf(layout, index);
      cells.forEach((cell, place) => cell.classList.toggle("chosen", place === address));
      pick.set(address);
      const entry = [...layout.layout].map((letter) => index[letter]).join(", ");
      const terms = [...layout.layout].filter((letter) => sizes[letter] > 1).map((letter) => `${index[letter]}\u00b7${layout.steps[letter]}`);
      return [el("dt", {}, FRAMEWORKS[side]), el("dd", {}, el("code", {}, `${name[side]}[${entry}]`), ` ${say("lesson.memory.address")} ${terms.join(" + ")} = ${address}`)];
    });
    const held = value === null ? [] : [el("dt", {}, say("lesson.memory.value")), el("dd", {}, value(addressOf(first, index)))];
    readout.replaceChildren(el("dt", { className: "entry" }, named(index)), el("dd"), ...lines.flat(), ...held);
  };
  const paint = (letter) => drawn.forEach(({ layout, cells }) => cells.forEach((cell, address) => {
    cell.className = `k${layout.indices[letter][address] % 4}${cell.classList.contains("chosen") ? " chosen" : ""}`;
  }));
  const options = letters.map((letter) => `${letter} ${say(`lesson.memory.${letter}`)}`);
  const choice = switchOf(say("lesson.memory.colour"), options, letters.indexOf(colour), (place) => paint(letters[place]));
  paint(colour);
  const begin = Object.fromEntries(Object.keys(sizes).map((letter) => [letter, Math.min(1, sizes[letter] - 1)]));
  show(begin);
  return {
    element: el("div", {}, choice.element, el("div", { className: "strips" }, ...drawn.map(({ block }) => block)), readout),
    again: () => show(begin),
  };
}

// The exercise that asks for an address: `question(case, layout, entry)` says it, the rest is alike.
export function addressTask(cases, random, { question, typed, name }) {
  const { sizes, steps } = random.pick(cases);
  const layout = random.pick(Object.keys(steps));
  const other = Object.keys(steps).find((one) => one !== layout);
  const letters = [...layout];
  const index = Object.fromEntries(letters.map((letter) => [letter, random.whole(0, sizes[letter] - 1)]));
  const add = (by) => letters.reduce((sum, letter) => sum + index[letter] * by(letter), 0);
  const answer = add((letter) => steps[layout][letter]);
  const backwards = (letter) => letters.slice(0, letters.indexOf(letter)).reduce((product, one) => product * sizes[one], 1);
  const mistakes = [
    ["layout", add((letter) => steps[other][letter])], ["fortran", add(backwards)], ["one", answer + 1], ["plain", add(() => 1)],
  ];
  if (mistakes.some(([, wrong]) => wrong === answer)) return addressTask(cases, random, { question, typed, name });
  const terms = letters.filter((letter) => sizes[letter] > 1).map((letter) => `${index[letter]}\u00b7${steps[layout][letter]}`).join(" + ");
  const shape = `(${letters.map((letter) => sizes[letter]).join(", ")})`;
  const entry = `\`[${letters.map((letter) => index[letter]).join(", ")}]\``;
  return {
    again: true,
    question: question({ layout, sizes, shape, entry }),
    input: typed(),
    check: (value) => {
      const strides = `(${letters.map((letter) => steps[layout][letter]).join(", ")})`;
      const places = { value, layout, other, terms, answer, strides };
      if (value === answer) return { right: true, why: say("lesson.memory.address.right", places) };
      const [why] = mistakes.find(([, wrong]) => wrong === value) ?? ["other"];
      return { right: false, why: say(`lesson.memory.address.${why}`, places) };
    },
  };
}
