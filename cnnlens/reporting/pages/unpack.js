// The page's packed arrays: each is decoded when it is first asked for, and kept.

import { data } from "./dom.js";

const KINDS = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int32: Int32Array };
const unpacked = new Map();

// The numbers of the array of that name, in C order, and its shape: a promise of { values, shape, exact }.
export function unpack(name) {
  if (!unpacked.has(name)) unpacked.set(name, decode(data.arrays[name]));
  return unpacked.get(name);
}

async function decode({ dtype, shape, at, bytes }) {
  const characters = document.getElementById("block").firstChild.data;
  const text = characters.slice((at / 3) * 4, (Math.ceil((at + bytes) / 3)) * 4);
  const packed = fromBase64(text).subarray(0, bytes);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  return { values: fromPlanes(planes, KINDS[dtype]), shape };
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let index = 0; index < bytes.length; index++) bytes[index] = characters.charCodeAt(index);
  return bytes;
}

// The bytes lie plane by plane: the first bytes of all numbers, then the second ones.
function fromPlanes(planes, Kind) {
  const width = Kind.BYTES_PER_ELEMENT;
  if (width === 1) return planes;
  const count = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    const from = plane * count;
    for (let index = 0, to = plane; index < count; index++, to += width) bytes[to] = planes[from + index];
  }
  return new Kind(bytes.buffer);
}
