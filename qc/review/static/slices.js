// Cuts planes out of a volume and turns them into pixels and contours. Nothing here knows the page.

// Which array axis a plane holds still, which run down and across the screen, and whether down is against the axis.
export const PLANES = {
  axial: { fixed: 0, down: 1, across: 2, flip: false, letters: ["A", "P", "R", "L"] },
  coronal: { fixed: 1, down: 0, across: 2, flip: true, letters: ["H", "F", "R", "L"] },
  sagittal: { fixed: 2, down: 0, across: 1, flip: true, letters: ["H", "F", "A", "P"] },
};
export const READER_COLOURS = ["#56B4E9", "#E69F00", "#F0E442", "#CC79A7", "#009E73", "#D55E00"];
export const READER_DASHES = [[], [7, 3], [3, 3], [9, 3, 2, 3], [1, 3], [5, 2, 1, 2]];
const UNMEASURED = [38, 53, 69];
const TRIMAP_UNKNOWN = 128;

// Plasma, in equal steps from alpha 0 to 1.
const ANCHORS = [
  [62, 4, 156], [99, 0, 167], [135, 7, 166], [166, 32, 152], [192, 58, 131], [213, 84, 110],
  [231, 111, 90], [245, 140, 70], [253, 173, 50], [252, 210, 36], [240, 249, 33],
];
export const MATTE_COLOURS = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (ANCHORS.length - 1);
  const low = Math.min(Math.floor(place), ANCHORS.length - 2);
  return ANCHORS[low].map((part, n) => part + (ANCHORS[low + 1][n] - part) * (place - low));
});

// A plane's size in voxels and millimetres.
export function extent(volume, plane) {
  const { fixed, down, across } = PLANES[plane];
  const { shape, spacing } = volume;
  return {
    rows: shape[down], columns: shape[across], slices: shape[fixed],
    rowMm: spacing[down], columnMm: spacing[across],
  };
}

function strides(shape) {
  return [shape[1] * shape[2], shape[2], 1];
}

// Paints one slice of the CT into an ImageData.
export function paintScan(image, volume, plane, index, window) {
  const { fixed, down, across, flip } = PLANES[plane];
  const step = strides(volume.shape);
  const { rows, columns } = extent(volume, plane);
  const pixels = new Uint32Array(image.data.buffer);
  const low = window.level - window.width / 2, scale = 255 / window.width;
  const unmeasured = 0xff000000 | (UNMEASURED[2] << 16) | (UNMEASURED[1] << 8) | UNMEASURED[0];
  let pixel = 0;
  for (let row = 0; row < rows; row++) {
    let voxel = index * step[fixed] + (flip ? rows - 1 - row : row) * step[down];
    for (let column = 0; column < columns; column++, voxel += step[across]) {
      const hu = volume.hu[voxel];
      if (hu === volume.unmeasured) {
        pixels[pixel++] = unmeasured;
        continue;
      }
      const grey = hu <= low ? 0 : Math.min(255, (hu - low) * scale) | 0;
      pixels[pixel++] = 0xff000000 | (grey * 0x010101);
    }
  }
}

// The part of a plane that lies in the overlays' box: where it begins on the screen, its size, and a way to read it.
export function boxPart(volume, plane, index) {
  const { fixed, down, across, flip } = PLANES[plane];
  const { start, shape } = volume.box;
  const inside = index - start[fixed];
  if (inside < 0 || inside >= shape[fixed]) return null;
  const step = strides(shape);
  const rows = shape[down], columns = shape[across];
  const top = flip ? volume.shape[down] - start[down] - rows : start[down];
  const field = (values) => {
    const cut = new Uint8Array(rows * columns);
    for (let row = 0, pixel = 0; row < rows; row++) {
      let voxel = inside * step[fixed] + (flip ? rows - 1 - row : row) * step[down];
      for (let column = 0; column < columns; column++, voxel += step[across]) cut[pixel++] = values[voxel];
    }
    return cut;
  };
  return { top, left: start[across], rows, columns, field };
}

// A matte's colours as pixels for one opacity; thin parts shine through.
const palettes = new Map();

function paletteOf(opacity) {
  if (!palettes.has(opacity)) {
    const palette = new Uint32Array(256);
    for (let value = 1; value < 256; value++) {
      const [red, green, blue] = MATTE_COLOURS[value].map(Math.round);
      const cover = Math.round(255 * opacity * Math.min(1, 0.35 + value / 160));
      palette[value] = ((cover << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
    palettes.set(opacity, palette);
  }
  return palettes.get(opacity);
}

export function paintMatte(image, cut, opacity) {
  const pixels = new Uint32Array(image.data.buffer), palette = paletteOf(opacity);
  for (let n = 0; n < cut.length; n++) pixels[n] = palette[cut[n]];
}

// Colours one matte minus another: red where the first has more, blue where it has less.
export function paintDifference(image, cut, other, opacity) {
  const pixels = image.data;
  for (let n = 0, p = 0; n < cut.length; n++, p += 4) {
    const gap = cut[n] - other[n];
    pixels[p] = gap > 0 ? 255 : 60; pixels[p + 1] = 90; pixels[p + 2] = gap > 0 ? 60 : 255;
    pixels[p + 3] = gap ? 255 * Math.min(1, 0.4 + opacity) * Math.min(1, Math.abs(gap) / 64) : 0;
  }
}

// Colours the trimap: unknown amber, foreground green.
export function paintTrimap(image, cut, opacity) {
  const pixels = image.data;
  for (let n = 0, p = 0; n < cut.length; n++, p += 4) {
    const unknown = cut[n] === TRIMAP_UNKNOWN;
    pixels[p] = unknown ? 255 : 70; pixels[p + 1] = unknown ? 190 : 220; pixels[p + 2] = unknown ? 60 : 110;
    pixels[p + 3] = cut[n] ? 150 * opacity : 0;
  }
}

// Marching squares: the line at a level as a Path2D in voxel units of the plane, pixel centres at halves.
export function contour(cut, part, level) {
  const { rows, columns, top, left } = part;
  const path = new Path2D();
  for (let row = -1; row < rows; row++) {
    const above = row >= 0 ? row * columns : -1, below = row + 1 < rows ? (row + 1) * columns : -1;
    let a = 0, d = 0;
    for (let column = -1; column < columns; column++) {
      const next = column + 1, inside = next < columns;
      const b = inside && above >= 0 ? cut[above + next] : 0, c = inside && below >= 0 ? cut[below + next] : 0;
      const kind = (a > level) | ((b > level) << 1) | ((c > level) << 2) | ((d > level) << 3);
      if (kind !== 0 && kind !== 15) cross(path, kind, left + column + 0.5, top + row + 0.5, [a, b, c, d], level);
      a = b;
      d = c;
    }
  }
  return path;
}

// Draws the line through one square, whose corners are a, b (above) and d, c (below).
function cross(path, kind, x, y, [a, b, c, d], level) {
  const points = {
    n: () => [x + (level - a) / (b - a), y],
    e: () => [x + 1, y + (level - b) / (c - b)],
    s: () => [x + (level - d) / (c - d), y + 1],
    w: () => [x, y + (level - a) / (d - a)],
  };
  for (const [from, to] of SEGMENTS[kind]) {
    path.moveTo(...points[from]());
    path.lineTo(...points[to]());
  }
}

// Which sides of a square the line joins, by which of its corners lie above the level.
const SEGMENTS = {
  1: ["wn"], 2: ["ne"], 3: ["we"], 4: ["es"], 5: ["ws", "ne"], 6: ["ns"], 7: ["ws"],
  8: ["ws"], 9: ["ns"], 10: ["wn", "es"], 11: ["es"], 12: ["we"], 13: ["ne"], 14: ["wn"],
};
