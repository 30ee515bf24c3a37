// Many tiles as one picture, in bands of rows that are painted when they come near what is seen.

import { el, whenNear } from "./dom.js";
import { painted } from "./colour.js";
import { picker } from "./picker.js";

const GAP = 3;
const BAND = 480; // pixels of a band, about
const TILE = 46; // pixels that a tile is enlarged to, where it is smaller

// A mosaic of `count` tiles.
//   shape: { height, width, slices } of a tile; joined: whether they are the rows of one matrix
//   tile(k): where its numbers begin, and the ends of its colours
//   source(): a promise of { values, table }; says, show: as a picker takes them
export class Mosaic {
  constructor({ label, count, shape, joined = false, tile, source, says, show }) {
    Object.assign(this, { count, shape, joined, tile, source, says });
    this.mark = el("div", { className: "mark" });
    this.bands = el("div", { className: "bands" });
    this.element = el("div", { className: joined ? "mosaic joined" : "mosaic" }, this.bands, this.mark);
    this.picker = picker(this.element, {
      label, count, says,
      columns: () => this.columns,
      at: (x, y) => this.at(x, y),
      show: (index) => { this.show(index); show(index); },
    });
    this.chosen = 0;
    new ResizeObserver(() => this.lay()).observe(this.element);
  }

  // Marks a tile that was chosen here or elsewhere.
  show(index) {
    this.chosen = index;
    this.picker.set(index);
    this.markChosen();
  }

  // The numbers or their colours are others now.
  repaint() {
    this.laid = 0;
    this.lay();
    this.picker.set(this.chosen);
  }

  lay() {
    const room = this.element.clientWidth;
    if (!room || this.laid === room) return;
    this.laid = room;
    const { height, width, slices = 1 } = this.shape;
    this.gap = this.joined ? 0 : GAP;
    const scale = Math.max(1, Math.round(TILE / (width * Math.sqrt(slices))));
    this.across = this.joined ? Math.max(1, Math.min(12, Math.floor(room / width))) : scale;
    this.down = this.joined ? Math.max(1, Math.min(12, Math.round(260 / this.count))) : scale;
    this.pitchX = width * slices * this.across + this.gap;
    this.pitchY = height * this.down + this.gap;
    this.columns = this.joined ? 1 : Math.max(1, Math.min(this.count, Math.floor((room + this.gap) / this.pitchX)));
    const rows = Math.ceil(this.count / this.columns);
    this.element.classList.toggle("long", rows * this.pitchY > innerHeight / 2);
    const rowsInBand = Math.max(1, Math.floor(BAND / this.pitchY));
    this.bands.replaceChildren();
    for (let row = 0; row < rows; row += rowsInBand) {
      const some = Math.min(rowsInBand, rows - row);
      const band = el("canvas");
      band.style.width = `${this.columns * this.pitchX - this.gap}px`;
      band.style.height = `${some * this.pitchY}px`;
      this.bands.append(band);
      whenNear(band, () => this.paint(band, row * this.columns, Math.min((row + some) * this.columns, this.count)));
    }
    this.markChosen();
  }

  async paint(band, first, last) {
    const { values, table } = await this.source();
    if (!band.isConnected) return;
    const { height, width, slices = 1 } = this.shape;
    const density = Math.max(1, Math.round(devicePixelRatio));
    const rows = Math.ceil((last - first) / this.columns);
    band.width = (this.columns * this.pitchX - this.gap) * density;
    band.height = rows * this.pitchY * density;
    const context = band.getContext("2d");
    context.imageSmoothingEnabled = false;
    for (let row = 0; row < rows; row++) {
      const from = first + row * this.columns;
      const to = Math.min(from + this.columns, last);
      const image = painted(values, table, from, to, this.shape, this.tile);
      const small = new OffscreenCanvas(image.width, image.height);
      small.getContext("2d").putImageData(image, 0, 0);
      const wide = width * slices;
      for (let k = from; k < to; k++) {
        context.drawImage(
          small, (k - from) * wide, 0, wide, height, (k - from) * this.pitchX * density, row * this.pitchY * density,
          wide * this.across * density, height * this.down * density,
        );
      }
    }
  }

  at(x, y) {
    const column = Math.floor(x / this.pitchX);
    const index = Math.floor(y / this.pitchY) * this.columns + column;
    return column < this.columns && index < this.count ? index : -1;
  }

  markChosen() {
    if (!this.columns) return;
    const { style } = this.mark;
    style.left = `${(this.chosen % this.columns) * this.pitchX}px`;
    style.top = `${Math.floor(this.chosen / this.columns) * this.pitchY}px`;
    style.width = `${this.pitchX - this.gap}px`;
    style.height = `${this.pitchY - this.gap}px`;
  }
}
