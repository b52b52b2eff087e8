// The images of one nodule: three linked planes, the 3D look and every candidate at the same slice.

import { PLANES, READER_COLOURS, READER_DASHES, boxPart, contour, excess, extent, lay, paintScan } from "./slices.js";
import { Pane, sheetOf } from "./pane.js";
import { paintSolid, solidOf } from "./solid.js";

export const WINDOWS = { lung: { level: -600, width: 1500 }, mediastinum: { level: 40, width: 400 } };
const PLANE_COLOURS = { axial: "#ffb454", coronal: "#7fd1a8", sagittal: "#8ab8f0" };
const MARGIN_MM = 12;
const THUMB_MARGIN_MM = 3;
const SOLID_PIXELS = 260;
const HALF = 127.5;

export class Viewer {
  // `strip` is filled with one small pane a candidate; hooks tell the page what the user did.
  constructor(root, strip, hooks) {
    this.root = root;
    this.strip = strip;
    this.hooks = hooks;
    this.panes = [...root.querySelectorAll(".pane")].map((element) => new Pane(element, element.dataset.plane));
    this.thumbs = [];
    this.volume = null;
    this.serial = 0;
    this.option = 0;
    this.against = 1;
    this.at = [0, 0, 0];
    this.window = { ...WINDOWS.lung };
    this.layers = { matte: true, iso: true, readers: false, trimap: false, difference: false };
    this.opacity = 0.55;
    this.cross = true;
    this.bare = false;
    this.drag = "cross";
    this.active = "axial";
    this.solidMode = "surface";
    this.turn = 0.5;
    this.tilt = 0.35;
    this.pending = false;
    this.drawn = [];
    this.told = ""; // what the page was last told of
    this.scans = new Map(); // plane -> the pixels of its present slice's CT
    for (const pane of this.panes) {
      this.listen(pane);
      if (pane.plane === "solid") continue;
      const { down, across, letters } = PLANES[pane.plane];
      pane.addMarks(letters, colourOfAxis(across), colourOfAxis(down));
    }
    new ResizeObserver(() => this.resize()).observe(root);
    new ResizeObserver(() => this.resize()).observe(strip);
  }

  // Does beforehand what the first look at a nodule needs.
  prepare(volume, options) {
    solidOf(volume, firstLook(options));
  }

  show(volume, options) {
    this.volume = volume;
    this.serial += 1;
    this.at = volume.middle.map(Math.round);
    this.option = firstLook(options);
    this.against = options.findIndex((option, place) => place !== this.option && !option.missing);
    this.makeStrip(options);
    this.resetView();
    this.resize();
    return this.draw();
  }

  resetView() {
    const { middle, extent, spacing } = this.volume;
    this.centre = middle.map((voxel, axis) => (voxel + 0.5) * spacing[axis]);
    this.radius = Math.max(...extent.map((voxels, axis) => voxels * spacing[axis])) / 2;
    this.zoom = 1;
    this.schedule();
  }

  makeStrip(options) {
    this.strip.replaceChildren();
    this.thumbs = options.map((option, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "thumb" + (option.missing ? " missing" : "") + (option.mine ? " mine" : "") + (option.other ? " other" : "");
      button.dataset.look = option.place;
      button.setAttribute("aria-label", `Show ${option.name || `option ${option.place}`}`);
      const canvas = document.createElement("canvas"), label = document.createElement("span");
      label.className = "label";
      const key = document.createElement("kbd");
      key.textContent = option.place;
      label.append(key, option.name ? ` ${option.name}` : "");
      button.append(canvas, label);
      if (option.missing) button.append(Object.assign(document.createElement("span"), { className: "none", textContent: "no matte" }));
      this.strip.append(button);
      return new Pane(button, null, place);
    });
  }

  look(place) {
    if (!this.volume || place < 0 || place >= this.volume.options.length) return;
    if (this.against === place) this.against = this.option;
    this.option = place;
    this.schedule();
  }

  // Moves along the axis that a plane holds still.
  scroll(plane, steps) {
    if (!this.volume || plane === "solid") return;
    const { fixed } = PLANES[plane];
    const towardsHead = fixed === 0 ? 1 : -1;
    this.moveTo(fixed, this.at[fixed] - steps * towardsHead);
  }

  moveTo(axis, index) {
    this.at[axis] = Math.min(this.volume.shape[axis] - 1, Math.max(0, Math.round(index)));
    this.schedule();
  }

  zoomBy(factor) {
    this.zoom = Math.min(12, Math.max(0.3, this.zoom * factor));
    this.schedule();
  }

  schedule() {
    if (this.pending || !this.volume) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawNow();
      for (const tell of this.drawn.splice(0)) tell();
    });
  }

  // Resolves when the present state is on the screen.
  draw() {
    this.schedule();
    return new Promise((resolve) => this.drawn.push(resolve));
  }

  resize() {
    for (const pane of [...this.panes, ...this.thumbs]) pane.fit();
    this.schedule();
  }

  drawNow() {
    for (const pane of this.panes) {
      if (!pane.width || !pane.height) continue;
      if (pane.plane === "solid") this.drawSolid(pane);
      else this.drawPlane(pane);
    }
    const plane = this.active === "solid" ? "axial" : this.active;
    for (const thumb of this.thumbs) {
      if (thumb.width && thumb.height) this.drawPicture(thumb, plane, thumb.place, this.frame(thumb, plane, THUMB_MARGIN_MM), 0.8);
    }
    const { window, layers, opacity, drag, option, against, solidMode, bare } = this;
    const state = JSON.stringify([this.serial, window, layers, opacity, drag, option, against, solidMode, bare]);
    if (state === this.told) return;
    this.told = state;
    for (const thumb of this.thumbs) thumb.element.setAttribute("aria-pressed", thumb.place === option);
    this.hooks.onState();
  }

  // The CT of a plane's present slice as pixels, painted when it changes.
  scanOf(plane) {
    const { rows, columns } = extent(this.volume, plane);
    const index = this.at[PLANES[plane].fixed];
    const state = `${this.serial} ${index} ${this.window.level} ${this.window.width}`;
    let scan = this.scans.get(plane);
    if (scan?.state !== state) {
      if (scan?.pixels.length !== rows * columns) scan = { pixels: new Uint32Array(rows * columns) };
      paintScan(scan.pixels, this.volume, plane, index, this.window);
      scan.state = state;
      this.scans.set(plane, scan);
    }
    return scan.pixels;
  }

  // Where voxels are on a pane that shows the nodule and a margin in millimetres around it.
  frame(pane, plane, marginMm) {
    const { down, across, flip } = PLANES[plane];
    const size = extent(this.volume, plane);
    const pixelsPerMm = (Math.min(pane.width, pane.height) / 2 / (this.radius + marginMm)) * this.zoom;
    const middleDown = flip ? size.rows * size.rowMm - this.centre[down] : this.centre[down];
    return {
      scaleX: pixelsPerMm * size.columnMm,
      scaleY: pixelsPerMm * size.rowMm,
      left: pane.width / 2 - this.centre[across] * pixelsPerMm,
      top: pane.height / 2 - middleDown * pixelsPerMm,
      pixelsPerMm,
    };
  }

  drawPlane(pane) {
    const { plane } = pane, { fixed, down, across, flip } = PLANES[plane];
    const { rows, slices } = extent(this.volume, plane);
    const frame = this.frame(pane, plane, MARGIN_MM);
    pane.frame = frame;
    this.drawPicture(pane, plane, this.option, frame, 1);
    const row = flip ? rows - 1 - this.at[down] : this.at[down];
    pane.cross(frame.left + (this.at[across] + 0.5) * frame.scaleX, frame.top + (row + 0.5) * frame.scaleY);
    pane.element.classList.toggle("uncrossed", !this.cross || this.bare);
    pane.scaleBar(frame.pixelsPerMm);
    this.sayPlace(pane, this.at[fixed] + 1, slices);
  }

  sayPlace(pane, number, slices) {
    const { hu, alpha } = this.reading();
    const values = pane.plane === "axial" ? `   ${hu === null ? "not measured" : `${hu} HU`}   α ${alpha.toFixed(2)}` : "";
    const words = `${pane.plane} ${number}/${slices}${values}`;
    if (pane.label.textContent === words) return;
    pane.label.textContent = words;
    pane.element.setAttribute("aria-valuemax", slices);
    pane.element.setAttribute("aria-valuenow", number);
    pane.element.setAttribute("aria-valuetext", `${number} of ${slices}`);
  }

  // One plane's slice with one option over it, drawn again only when something in it has changed.
  drawPicture(pane, plane, option, frame, weight) {
    const { serial, window, layers, opacity, against, bare } = this;
    const index = this.at[PLANES[plane].fixed];
    const state = JSON.stringify([serial, plane, index, option, window, layers, opacity, layers.difference && against, bare, frame]);
    if (pane.state === state) return;
    pane.state = state;
    const { rows, columns } = extent(this.volume, plane);
    const sheet = sheetOf(`${pane.plane}${pane.place}`, columns, rows);
    sheet.pixels.set(this.scanOf(plane));
    const part = this.bare ? null : boxPart(this.volume, plane, index);
    const cut = part?.field(this.volume.options[option]);
    if (part) this.colours(sheet.pixels, columns, part, cut);
    sheet.context.putImageData(sheet.image, 0, 0);
    pane.sheet(sheet, frame);
    if (part) this.lines(pane, part, cut, frame, weight);
  }

  colours(pixels, columns, part, cut) {
    const { layers, opacity, volume, against } = this;
    if (layers.trimap && volume.trimap) lay(pixels, columns, part, part.field(volume.trimap), "trimap", opacity);
    if (layers.difference && against >= 0) {
      const other = part.field(volume.options[against]);
      lay(pixels, columns, part, excess(cut, other), "more", opacity);
      lay(pixels, columns, part, excess(other, cut), "less", opacity);
    } else if (layers.matte) lay(pixels, columns, part, cut, "matte", opacity);
  }

  lines(pane, part, cut, frame, weight) {
    const { readers, readerCount } = this.volume;
    if (this.layers.readers && readers) {
      const bits = part.field(readers);
      for (let reader = 0; reader < readerCount; reader++) {
        const path = contour(bits.map((value) => (value >> reader) & 1), part, 0.5, frame);
        pane.line(path, READER_COLOURS[reader % 6], 1.6 * weight, READER_DASHES[reader % 6]);
      }
    }
    if (this.layers.iso) {
      const path = contour(cut, part, HALF, frame);
      pane.line(path, "rgba(0,0,0,.55)", 3 * weight, []);
      pane.line(path, "#ffffff", 1.3 * weight, []);
    }
  }

  drawSolid(pane) {
    const { serial, option, turn, tilt, zoom, solidMode, window } = this;
    const state = JSON.stringify([serial, option, turn, tilt, zoom, solidMode, solidMode === "mip" && window]);
    if (pane.state === state) return;
    pane.state = state;
    const sheet = sheetOf("solid", SOLID_PIXELS, SOLID_PIXELS);
    paintSolid(sheet.image, solidOf(this.volume, this.option), this.turn, this.tilt, Math.min(3, this.zoom), this.solidMode, this.window);
    sheet.context.putImageData(sheet.image, 0, 0);
    pane.clear();
    const size = Math.min(pane.width, pane.height);
    pane.context.imageSmoothingQuality = "high";
    pane.context.drawImage(sheet.canvas, (pane.width - size) / 2, (pane.height - size) / 2, size, size);
    const degrees = ((Math.round((this.turn * 180) / Math.PI) % 360) + 360) % 360;
    pane.element.setAttribute("aria-valuenow", degrees);
    pane.element.setAttribute("aria-valuetext", `${degrees} degrees`);
    pane.label.textContent = this.solidMode === "mip" ? "MIP of the lesion" : "surface at 0.5, with halo";
  }

  turnBy(turn, tilt) {
    this.turn += turn;
    this.tilt = Math.min(1.57, Math.max(-1.57, this.tilt + tilt));
    this.schedule();
  }

  listen(pane) {
    const { element, plane } = pane;
    element.addEventListener("pointerenter", () => this.hooks.onActive(plane));
    element.addEventListener("focus", () => this.hooks.onActive(plane));
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey || plane === "solid") this.zoomBy(event.deltaY < 0 ? 1.12 : 1 / 1.12);
      else this.scroll(plane, Math.sign(event.deltaY));
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => this.startDrag(pane, event));
  }

  startDrag(pane, event) {
    if (!this.volume) return;
    const kind = pane.plane === "solid" ? "turn" : event.button === 2 ? "window" : event.button === 1 ? "pan" : this.drag;
    event.preventDefault();
    pane.element.focus({ preventScroll: true });
    pane.element.setPointerCapture(event.pointerId);
    let [x, y] = [event.clientX, event.clientY];
    const move = (to) => {
      const dx = to.clientX - x, dy = to.clientY - y;
      [x, y] = [to.clientX, to.clientY];
      this.dragged(pane, kind, dx, dy, to);
    };
    const end = () => {
      pane.element.removeEventListener("pointermove", move);
      pane.element.removeEventListener("pointerup", end);
      pane.element.removeEventListener("pointercancel", end);
    };
    pane.element.addEventListener("pointermove", move);
    pane.element.addEventListener("pointerup", end);
    pane.element.addEventListener("pointercancel", end);
    if (kind === "cross") this.dragged(pane, kind, 0, 0, event);
  }

  dragged(pane, kind, dx, dy, event) {
    const ratio = pane.ratio;
    if (kind === "turn") this.turnBy(dx * 0.01, dy * 0.01);
    else if (kind === "window") {
      this.window.width = Math.min(4000, Math.max(20, this.window.width + dx * 4));
      this.window.level = Math.min(3000, Math.max(-1400, this.window.level - dy * 2));
    } else if (kind === "pan") {
      const { down, across, flip } = PLANES[pane.plane];
      this.centre[across] -= (dx * ratio) / pane.frame.pixelsPerMm;
      this.centre[down] -= ((flip ? -dy : dy) * ratio) / pane.frame.pixelsPerMm;
    } else {
      const { down, across, flip } = PLANES[pane.plane];
      const bounds = pane.canvas.getBoundingClientRect();
      const { rows } = extent(this.volume, pane.plane);
      const column = ((event.clientX - bounds.left) * ratio - pane.frame.left) / pane.frame.scaleX - 0.5;
      const row = ((event.clientY - bounds.top) * ratio - pane.frame.top) / pane.frame.scaleY - 0.5;
      this.moveTo(across, column);
      this.moveTo(down, flip ? rows - 1 - row : row);
    }
    this.schedule();
  }

  // HU and alpha under the cross-hair.
  reading() {
    const { hu, shape, box, options, unmeasured } = this.volume;
    const [z, y, x] = this.at;
    const value = hu[(z * shape[1] + y) * shape[2] + x];
    const inside = this.at.map((place, axis) => place - box.start[axis]);
    const within = inside.every((place, axis) => place >= 0 && place < box.shape[axis]);
    const alpha = within ? options[this.option][(inside[0] * box.shape[1] + inside[1]) * box.shape[2] + inside[2]] / 255 : 0;
    return { hu: value === unmeasured ? null : value, alpha };
  }
}

// What is looked at first: the reviewer's own choice, or the first matte that there is.
export function firstLook(options) {
  const mine = options.findIndex((option) => option.mine && !option.missing);
  return mine >= 0 ? mine : Math.max(0, options.findIndex((option) => !option.missing));
}

function colourOfAxis(axis) {
  return [PLANE_COLOURS.axial, PLANE_COLOURS.coronal, PLANE_COLOURS.sagittal][axis];
}
