// Numbers as the commands print them: a few digits, a true minus sign.

const MINUS = "\u2212";

// As Python's "%.{digits}g", with NaN and Inf by name.
export function number(value, digits = 3) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? `${MINUS}Inf` : "Inf";
  if (value === 0) return "0";
  let [digitsShown, exponent] = value.toExponential(digits - 1).split("e");
  exponent = Number(exponent);
  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  let shown;
  if (exponent < -4 || exponent >= digits) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    shown = `${bare(digitsShown)}e${exponent < 0 ? "-" : "+"}${size}`;
  } else {
    shown = bare(value.toFixed(Math.max(0, digits - 1 - exponent)));
  }
  return shown.replace(/-/g, MINUS);
}

// A whole number with commas, as the commands print it.
export const whole = (value) => value.toLocaleString("en-US");
