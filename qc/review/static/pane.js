// One canvas of the page with the marks over it, and scratch canvases to paint voxels on. Nothing here knows what is shown.

const GAP_PX = 14;
const sheets = new Map();

// A scratch canvas by name, made again when its size changes.
export function sheetOf(name, width, height) {
  const known = sheets.get(name);
  if (known && known.canvas.width === width && known.canvas.height === height) return known;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(width, height);
  const sheet = { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
  sheets.set(name, sheet);
  return sheet;
}

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

export class Pane {
  constructor(element, plane, place = -1) {
    this.element = element;
    this.plane = plane;
    this.place = place;
    this.canvas = element.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.label = element.querySelector(".label");
    this.frame = null;
    this.state = "";
    this.width = this.height = 0;
    this.ratio = 1;
  }

  // Cross-hair, the patient's sides and a scale bar: elements of their own, so that moving them redraws no image.
  addMarks([top, bottom, left, right], vertical, horizontal) {
    this.bars = [vertical, vertical, horizontal, horizontal].map((colour, n) => {
      const bar = make("i", n < 2 ? "vertical" : "horizontal", this.element);
      bar.style.background = colour;
      return bar;
    });
    for (const [side, letter] of Object.entries({ top, bottom, left, right })) make("span", `mark ${side}`, this.element).textContent = letter;
    this.scale = make("span", "mark scale", this.element);
  }

  fit() {
    this.ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * this.ratio), height = Math.round(this.canvas.clientHeight * this.ratio);
    if (width !== this.width || height !== this.height) {
      this.canvas.width = this.width = width;
      this.canvas.height = this.height = height;
      this.state = "";
    }
  }

  clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.width, this.height);
  }

  sheet({ canvas }, frame) {
    this.clear();
    this.context.drawImage(canvas, frame.left, frame.top, canvas.width * frame.scaleX, canvas.height * frame.scaleY);
  }

  line(path, colour, width, dashes) {
    const { context, ratio } = this;
    context.setLineDash(dashes.map((dash) => dash * ratio));
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.stroke(path);
  }

  // Stops short of the middle, so that it never hides what it points at. The bars are as long as the pane.
  cross(x, y) {
    const { ratio } = this, [left, top] = [x / ratio, y / ratio];
    const [above, below, before, after] = this.bars;
    above.style.transform = `translate(${left}px, calc(-100% + ${top - GAP_PX}px))`;
    below.style.transform = `translate(${left}px, ${top + GAP_PX}px)`;
    before.style.transform = `translate(calc(-100% + ${left - GAP_PX}px), ${top}px)`;
    after.style.transform = `translate(${left + GAP_PX}px, ${top}px)`;
  }

  scaleBar(pixelsPerMm) {
    const mm = [50, 20, 10, 5, 2, 1].find((length) => length * pixelsPerMm < this.width * 0.3) ?? 1;
    this.scale.style.width = `${(mm * pixelsPerMm) / this.ratio}px`;
    this.scale.textContent = `${mm} mm`;
  }
}
