// What the colours on the images mean: a bar for alpha, and a sample of each line and colour that is shown.

import { COLOURS, READER_COLOURS, READER_DASHES } from "./slices.js";

const STEPS = 10;
const SAMPLE_PX = 26;

function css(pixel) {
  return `rgba(${pixel & 255}, ${(pixel >>> 8) & 255}, ${(pixel >>> 16) & 255}, ${(pixel >>> 24) / 255})`;
}

function make(className, words = "") {
  return Object.assign(document.createElement("span"), { className, textContent: words });
}

function bar(kind, words) {
  const colours = Array.from({ length: STEPS + 1 }, (_, n) => css(COLOURS[kind]((255 * n) / STEPS, 1)));
  const item = make("key"), strip = make("ramp");
  strip.style.backgroundImage = `linear-gradient(to right, ${colours.join(", ")})`;
  item.append(make("", words[0]), strip, make("", words[1]));
  return item;
}

function line(colour, dashes, words) {
  const item = make("key"), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * SAMPLE_PX, 16];
  canvas.className = "sample";
  const context = canvas.getContext("2d");
  context.strokeStyle = colour;
  context.lineWidth = 4;
  context.setLineDash(dashes.map((dash) => 2 * dash));
  context.moveTo(0, 8);
  context.lineTo(canvas.width, 8);
  context.stroke();
  item.append(canvas, make("", words));
  return item;
}

function patch(pixel, words) {
  const item = make("key"), sample = make("patch");
  sample.style.backgroundColor = css(pixel);
  item.append(sample, make("", words));
  return item;
}

// Fills an element with the keys of the layers that are shown; `against` names the matte that others are compared with.
export function paintLegend(element, { layers, bare, readerCount, against }) {
  const keys = [];
  if (!bare) {
    if (layers.difference) {
      keys.push(patch(COLOURS.more(255, 1), `more than ${against}`), patch(COLOURS.less(255, 1), `less than ${against}`));
    } else if (layers.matte) keys.push(bar("matte", ["alpha 0", "1"]));
    if (layers.iso) keys.push(line("#ffffff", [], "alpha 0.5"));
    if (layers.readers) {
      for (let reader = 0; reader < readerCount; reader++) {
        keys.push(line(READER_COLOURS[reader % 6], READER_DASHES[reader % 6], `reader ${reader + 1}`));
      }
    }
    if (layers.trimap) keys.push(patch(COLOURS.trimap(128, 1), "unknown"), patch(COLOURS.trimap(255, 1), "foreground"));
  }
  element.replaceChildren(...keys);
}
