// Numbers to colours: the tables and their ends are those that the commands draw with.

import { data } from "./dom.js";
import { unpack } from "./unpack.js";

const channels = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const NAN_COLOUR = channels(data.colours.nan);
const INFINITE_COLOUR = channels(data.colours.infinite);

// The 256 colours of "weights", "activations" or "grey", three bytes each.
export const colours = async (name) => (await unpack(`colours.${name}`)).values;

// The place in the table of a value between the ends, or of a level; -1 of NaN, -2 of an infinite one.
export function placeOf(values, index, low, high) {
  const value = values[index];
  if (values instanceof Uint8Array) {
    if (value > data.colours.levels) return value === 254 ? -1 : -2;
    return Math.round((value / data.colours.levels) * 255);
  }
  if (Number.isNaN(value)) return -1;
  if (!Number.isFinite(value)) return -2;
  if (!(high > low)) return 128;
  return Math.round(Math.min(Math.max((value - low) / (high - low), 0), 1) * 255);
}

// Puts a colour into the pixels of an image, at pixel `to`.
export function put(pixels, to, table, place) {
  const [red, green, blue] =
    place >= 0 ? table.subarray(place * 3, place * 3 + 3) : place === -1 ? NAN_COLOUR : INFINITE_COLOUR;
  pixels[to * 4] = red;
  pixels[to * 4 + 1] = green;
  pixels[to * 4 + 2] = blue;
  pixels[to * 4 + 3] = 255;
}

const WIDEST = 16_384; // pixels of a canvas that every browser draws

// Of a line of so many numbers one in so many has a pixel.
export const thinned = (count) => Math.ceil(count / WIDEST);

// A picture of tiles in a row: `tile(k)` says where tile k begins and the ends of its colours.
export function painted(values, table, first, last, { height, width, slices = 1 }, tile) {
  const step = height === 1 && last - first === 1 ? thinned(width * slices) : 1;
  const across = Math.ceil((width * slices) / step);
  const image = new ImageData(across * (last - first), height);
  for (let k = first; k < last; k++) {
    const { start, low, high } = tile(k);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < across; x++) {
        const slice = Math.floor((x * step) / width);
        const from = start + (slice * height + y) * width + (x * step - slice * width);
        put(image.data, y * image.width + (k - first) * across + x, table, placeOf(values, from, low, high));
      }
    }
  }
  return image;
}
