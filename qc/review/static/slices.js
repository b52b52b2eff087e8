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

// A pixel as ImageData holds it, its opacity in the upper byte.
function pixelOf(red, green, blue, cover) {
  return ((Math.round(255 * cover) << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
}

// What a value of 0..255 looks like at one opacity; 0 is clear. Thin parts of a matte shine through.
export const COLOURS = {
  matte(value, opacity) {
    const place = (value / 255) * (ANCHORS.length - 1);
    const low = Math.min(Math.floor(place), ANCHORS.length - 2);
    const colour = ANCHORS[low].map((part, n) => part + (ANCHORS[low + 1][n] - part) * (place - low));
    return pixelOf(...colour, opacity * Math.min(1, 0.35 + value / 160));
  },
  // Unknown amber, foreground green
  trimap: (value, opacity) => (value === TRIMAP_UNKNOWN ? pixelOf(255, 190, 60, 0.6 * opacity) : pixelOf(70, 220, 110, 0.6 * opacity)),
  // Difference of two mattes: red where the first is larger, blue where it is smaller
  more: (value, opacity) => pixelOf(255, 90, 60, Math.min(1, 0.4 + opacity) * Math.min(1, value / 64)),
  less: (value, opacity) => pixelOf(60, 90, 255, Math.min(1, 0.4 + opacity) * Math.min(1, value / 64)),
};
const palettes = new Map();

function paletteOf(kind, opacity) {
  const key = `${kind} ${opacity}`;
  if (!palettes.has(key)) palettes.set(key, Uint32Array.from({ length: 256 }, (_, value) => (value ? COLOURS[kind](value, opacity) : 0)));
  return palettes.get(key);
}

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

// Paints one slice of the CT into pixels.
export function paintScan(pixels, volume, plane, index, window) {
  const { fixed, down, across, flip } = PLANES[plane];
  const step = strides(volume.shape), next = step[across];
  const { rows, columns } = extent(volume, plane);
  const { hu, unmeasured } = volume;
  const low = window.level - window.width / 2, scale = 255 / window.width;
  const [red, green, blue] = UNMEASURED, void_ = pixelOf(red, green, blue, 1);
  let pixel = 0;
  for (let row = 0; row < rows; row++) {
    let voxel = index * step[fixed] + (flip ? rows - 1 - row : row) * step[down];
    for (let column = 0; column < columns; column++, voxel += next) {
      const value = hu[voxel];
      const grey = value <= low ? 0 : Math.min(255, (value - low) * scale) | 0;
      pixels[pixel++] = value === unmeasured ? void_ : 0xff000000 | (grey * 0x010101);
    }
  }
}

// The part of a plane inside the overlays' box: where it starts on the screen, its size, and a way to read it.
export function boxPart(volume, plane, index) {
  const { fixed, down, across, flip } = PLANES[plane];
  const { start, shape } = volume.box;
  const inside = index - start[fixed];
  if (inside < 0 || inside >= shape[fixed]) return null;
  const step = strides(shape);
  const rows = shape[down], columns = shape[across];
  const top = flip ? volume.shape[down] - start[down] - rows : start[down];
  const field = (values) => {
    const cut = new Uint8Array(rows * columns), next = step[across];
    for (let row = 0, pixel = 0; row < rows; row++) {
      let voxel = inside * step[fixed] + (flip ? rows - 1 - row : row) * step[down];
      if (next === 1) {
        cut.set(values.subarray(voxel, voxel + columns), pixel);
        pixel += columns;
      } else for (let column = 0; column < columns; column++, voxel += next) cut[pixel++] = values[voxel];
    }
    return cut;
  };
  return { top, left: start[across], rows, columns, field };
}

// Lays a part's values over pixels of so many columns, in the colours of their kind.
export function lay(pixels, columns, part, cut, kind, opacity) {
  const palette = paletteOf(kind, opacity);
  for (let row = 0, n = 0; row < part.rows; row++) {
    let pixel = (part.top + row) * columns + part.left;
    for (let column = 0; column < part.columns; column++, n++, pixel++) {
      const over = palette[cut[n]], cover = over >>> 24;
      if (!cover) continue;
      // Red and blue at once, in parts of 256
      const share = cover + (cover >> 7), rest = 256 - share, under = pixels[pixel];
      const redBlue = (((over & 0xff00ff) * share + (under & 0xff00ff) * rest) >>> 8) & 0xff00ff;
      const green = (((over & 0xff00) * share + (under & 0xff00) * rest) >>> 8) & 0xff00;
      pixels[pixel] = 0xff000000 | redBlue | green;
    }
  }
}

// Where one cut has more than another, and by how much.
export function excess(cut, other) {
  return cut.map((value, n) => Math.max(0, value - other[n]));
}

// Marching squares: the line at a level as a path on the screen; pixel centres are at half-integers.
export function contour(cut, part, level, frame) {
  const { rows, columns } = part;
  const path = new Path2D();
  for (let row = -1; row < rows; row++) {
    const above = row >= 0 ? row * columns : -1, below = row + 1 < rows ? (row + 1) * columns : -1;
    let a = 0, d = 0;
    for (let column = -1; column < columns; column++) {
      const next = column + 1, inside = next < columns;
      const b = inside && above >= 0 ? cut[above + next] : 0, c = inside && below >= 0 ? cut[below + next] : 0;
      const kind = (a > level) | ((b > level) << 1) | ((c > level) << 2) | ((d > level) << 3);
      if (kind !== 0 && kind !== 15) cross(path, kind, part.left + column + 0.5, part.top + row + 0.5, a, b, c, d, level, frame);
      a = b;
      d = c;
    }
  }
  return path;
}

// Draws the line through one square, whose corners are a, b (above) and d, c (below).
function cross(path, kind, x, y, a, b, c, d, level, frame) {
  const ends = ENDS[kind];
  for (let n = 0; n < ends.length; n++) {
    const side = ends[n];
    let px = x, py = y;
    if (side === NORTH) px += (level - a) / (b - a);
    else if (side === SOUTH) { px += (level - d) / (c - d); py += 1; }
    else if (side === EAST) { px += 1; py += (level - b) / (c - b); }
    else py += (level - a) / (d - a);
    const left = frame.left + px * frame.scaleX, top = frame.top + py * frame.scaleY;
    if (n % 2) path.lineTo(left, top);
    else path.moveTo(left, top);
  }
}

// Which sides of a square the line joins, in pairs, by which of its corners are above the level.
const [NORTH, EAST, SOUTH, WEST] = [0, 1, 2, 3];
const ENDS = [
  [], [WEST, NORTH], [NORTH, EAST], [WEST, EAST], [EAST, SOUTH], [WEST, SOUTH, NORTH, EAST], [NORTH, SOUTH], [WEST, SOUTH],
  [WEST, SOUTH], [NORTH, SOUTH], [WEST, NORTH, EAST, SOUTH], [EAST, SOUTH], [WEST, EAST], [NORTH, EAST], [WEST, NORTH], [],
];
