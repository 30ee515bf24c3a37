// One of many small pictures is chosen, by pointer or by keyboard: to a screen reader that is a slider, which says in
// words what is chosen.

// Makes `element` such a slider.
//   count: how many; columns(): how many stand in a row now; at(x, y): which lies there, or -1
//   says(index): what it is; show(index): marks it and tells the others; hover: whether a mouse chooses without a click
export function picker(element, { label, count, columns, at, says, show, hover = true }) {
  let chosen = 0;
  const choose = (index) => {
    if (index < 0 || index >= count || index === chosen) return;
    set(index);
    show(index);
  };
  const set = (index) => {
    chosen = index;
    element.setAttribute("aria-valuenow", index);
    element.setAttribute("aria-valuetext", says(index));
  };
  element.tabIndex = 0;
  element.setAttribute("role", "slider");
  element.setAttribute("aria-label", label);
  element.setAttribute("aria-valuemin", 0);
  element.setAttribute("aria-valuemax", count - 1);
  set(0);
  element.addEventListener("keydown", (event) => {
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -count, End: count,
    };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const to = chosen + steps[event.key];
    choose(event.key === "Home" ? 0 : event.key === "End" ? count - 1 : to);
  });
  const point = (event) => {
    const box = element.getBoundingClientRect();
    choose(at(event.clientX - box.left + element.scrollLeft, event.clientY - box.top + element.scrollTop));
  };
  element.addEventListener("pointerdown", point);
  element.addEventListener("pointermove", (event) => hover && event.pointerType === "mouse" && point(event));
  return { set };
}
