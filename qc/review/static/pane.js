// One canvas of the page, and scratch canvases to paint voxels on. Nothing here knows what is shown.

const sheets = new Map();

// A scratch canvas by name, made anew when its size changes.
export function sheetOf(name, width, height) {
  const known = sheets.get(name);
  if (known && known.canvas.width === width && known.canvas.height === height) return known;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const sheet = { canvas, context, image: context.createImageData(width, height) };
  sheets.set(name, sheet);
  return sheet;
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
    this.state = this.kept = "";
    this.width = this.height = 0;
    this.ratio = 1;
  }

  fit() {
    this.ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * this.ratio), height = Math.round(this.canvas.clientHeight * this.ratio);
    if (width !== this.width || height !== this.height) {
      this.canvas.width = this.width = width;
      this.canvas.height = this.height = height;
      this.state = this.kept = "";
    }
  }

  // Draws a picture and keeps it, or brings back the one that was kept under the same state.
  keep(state, draw) {
    this.clear();
    if (this.kept === state) {
      this.context.drawImage(this.copy, 0, 0);
      return;
    }
    draw();
    this.copy ??= document.createElement("canvas");
    this.copy.width = this.width;
    this.copy.height = this.height;
    this.copy.getContext("2d", { alpha: false }).drawImage(this.canvas, 0, 0);
    this.kept = state;
  }

  clear() {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.width, this.height);
  }

  sheet(canvas, column, row, frame) {
    this.context.imageSmoothingEnabled = true;
    this.context.drawImage(
      canvas, frame.left + column * frame.scaleX, frame.top + row * frame.scaleY,
      canvas.width * frame.scaleX, canvas.height * frame.scaleY,
    );
  }

  line(path, frame, colour, width, dashes) {
    const { context, ratio } = this;
    const placed = new Path2D();
    placed.addPath(path, new DOMMatrix([frame.scaleX, 0, 0, frame.scaleY, frame.left, frame.top]));
    context.setLineDash(dashes.map((dash) => dash * ratio));
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.stroke(placed);
    context.setLineDash([]);
  }

  // Stops short of the middle, so that it never hides what it points at.
  cross(x, y, vertical, horizontal) {
    const { context, ratio } = this, gap = 14 * ratio;
    context.globalAlpha = 0.55;
    context.lineWidth = ratio;
    const stroke = (colour, ...ends) => {
      context.strokeStyle = colour;
      context.beginPath();
      for (const [ax, ay, bx, by] of ends) {
        context.moveTo(ax, ay);
        context.lineTo(bx, by);
      }
      context.stroke();
    };
    stroke(vertical, [x, 0, x, y - gap], [x, y + gap, x, this.height]);
    stroke(horizontal, [0, y, x - gap, y], [x + gap, y, this.width, y]);
    context.globalAlpha = 1;
  }

  text(words, x, y, align, base) {
    const { context, ratio } = this;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textAlign = align;
    context.textBaseline = base;
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "rgba(0,0,0,.8)";
    context.strokeText(words, x, y);
    context.fillStyle = "#cfd6dd";
    context.fillText(words, x, y);
  }

  letters([top, bottom, left, right]) {
    const edge = 5 * this.ratio;
    this.text(top, this.width / 2, edge, "center", "top");
    this.text(bottom, this.width / 2, this.height - edge, "center", "bottom");
    this.text(left, edge, this.height / 2, "left", "middle");
    this.text(right, this.width - edge, this.height / 2, "right", "middle");
  }

  scaleBar(pixelsPerMm) {
    const { context, ratio } = this;
    const mm = [50, 20, 10, 5, 2, 1].find((length) => length * pixelsPerMm < this.width * 0.3) ?? 1;
    const y = this.height - 9 * ratio, right = this.width - 9 * ratio;
    context.strokeStyle = "#cfd6dd";
    context.lineWidth = 2 * ratio;
    context.beginPath();
    context.moveTo(right - mm * pixelsPerMm, y);
    context.lineTo(right, y);
    context.stroke();
    this.text(`${mm} mm`, right, y - 4 * ratio, "right", "bottom");
  }
}
