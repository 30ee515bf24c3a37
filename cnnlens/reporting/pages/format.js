// Numbers as the commands print them: a few digits, a true minus sign.

const MINUS = "\u2212";

// As Python's "%.{digits}g", with NaN and Inf by name.
export function number(value, digits = 3) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? `${MINUS}Inf` : "Inf";
  if (value === 0) return "0";
  let [digitsShown, exponent] = value.toExponential(digits - 1).split("e");
  const [exact, power] = value.toExponential(EXACT).split("e");
  if (power === exponent) digitsShown = toEven(digitsShown, exact);
  exponent = Number(exponent);
  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  let shown;
  if (exponent < -4 || exponent >= digits) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    shown = `${bare(digitsShown)}e${exponent < 0 ? "-" : "+"}${size}`;
  } else {
    shown = bare(fixed(value, Math.max(0, digits - 1 - exponent)));
  }
  return shown.replace(/-/g, MINUS);
}

// As Python's "%.{digits}f".
export const rounded = (value, digits) => fixed(value, digits).replace("-", MINUS);

const EXACT = 60; // digits that show whether a number lies halfway between two shorter ones
const fixed = (value, digits) => toEven(value.toFixed(digits), value.toFixed(EXACT));

// Halfway JavaScript takes the larger one, Python that which ends in an even digit.
function toEven(shown, exact) {
  const last = Number(shown.at(-1));
  const halfway = /^50*$/.test(exact.slice(shown.length).replace(".", ""));
  return halfway && last % 2 ? shown.slice(0, -1) + (last - 1) : shown;
}

// A whole number with commas, as the commands print it.
export const whole = (value) => value.toLocaleString("en-US");
