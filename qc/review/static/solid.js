// The 3D look: a matte's surface at 0.5 in its own halo, or the brightest HU along each ray through the lesion.

const VISIBLE = 12;
const SURFACE = 128;
const MARGIN_MM = 3;
const NOWHERE = -1e9;

// Gives what has to be drawn of one matte, collected once a candidate.
export function solidOf(volume, option) {
  if (!volume.solids.has(option)) volume.solids.set(option, collect(volume, option));
  return volume.solids.get(option);
}

// The surface is where the line between two neighbouring voxels crosses 0.5; the halo and the MIP are made of voxels.
function collect(volume, option) {
  const { shape, start } = volume.box, { spacing } = volume;
  const values = volume.options[option];
  const [depth, height, width] = shape;
  const at = (z, y, x) =>
    z < 0 || y < 0 || x < 0 || z >= depth || y >= height || x >= width ? 0 : values[(z * height + y) * width + x];
  const surface = [], cloud = { places: [], alphas: [], hus: [] };
  const place = (z, y, x) => [(x - (width - 1) / 2) * spacing[2], (y - (height - 1) / 2) * spacing[1], (z - (depth - 1) / 2) * spacing[0]];
  let reach = 1;
  for (let z = -1; z < depth; z++) {
    for (let y = -1; y < height; y++) {
      for (let x = -1; x < width; x++) {
        const alpha = at(z, y, x);
        for (let axis = 0; axis < 3; axis++) {
          const [nz, ny, nx] = [z + (axis === 0), y + (axis === 1), x + (axis === 2)];
          const beyond = at(nz, ny, nx);
          if (alpha >= SURFACE === beyond >= SURFACE) continue;
          const share = (SURFACE - alpha) / (beyond - alpha);
          const point = place(z + share * (nz - z), y + share * (ny - y), x + share * (nx - x));
          surface.push(...point);
          reach = Math.max(reach, Math.hypot(...point));
        }
        if (alpha < VISIBLE) continue;
        cloud.places.push(...place(z, y, x));
        cloud.alphas.push(alpha < SURFACE ? alpha : 0);
        cloud.hus.push(volume.hu[((z + start[0]) * volume.shape[1] + y + start[1]) * volume.shape[2] + x + start[2]]);
      }
    }
  }
  return {
    surface: new Float32Array(surface),
    cloud: { places: new Float32Array(cloud.places), alphas: new Uint8Array(cloud.alphas), hus: new Int16Array(cloud.hus) },
    reach: reach + MARGIN_MM, grain: Math.max(...spacing),
  };
}

// Draws it turned by two angles into an ImageData of a square.
export function paintSolid(image, solid, turn, tilt, zoom, mode, window) {
  const size = image.width, middle = size / 2, scale = (middle * zoom) / solid.reach;
  const cosTurn = Math.cos(turn), sinTurn = Math.sin(turn), cosTilt = Math.cos(tilt), sinTilt = Math.sin(tilt);
  // Seen from the front: x to the right, z up, and the viewer at negative y
  const turned = (places, n) => {
    const x = places[n], y = places[n + 1], z = places[n + 2];
    const away = x * sinTurn + y * cosTurn;
    return [x * cosTurn - y * sinTurn, z * cosTilt - away * sinTilt, -(away * cosTilt + z * sinTilt)];
  };
  const splat = (places, n, width, lay) => {
    const [across, up, front] = turned(places, n);
    const left = Math.round(middle + across * scale - width / 2), top = Math.round(middle - up * scale - width / 2);
    if (left < 0 || top < 0 || left + width > size || top + width > size) return;
    for (let row = top; row < top + width; row++) {
      for (let pixel = row * size + left, end = pixel + width; pixel < end; pixel++) lay(pixel, front);
    }
  };
  const near = new Float32Array(size * size).fill(NOWHERE);
  const { surface, cloud } = solid;
  const coarse = Math.max(1, Math.ceil(solid.grain * scale * 1.3));
  if (mode === "mip") {
    for (let n = 0, p = 0; n < cloud.hus.length; n++, p += 3) {
      const hu = cloud.hus[n];
      splat(cloud.places, p, coarse, (pixel) => { if (hu > near[pixel]) near[pixel] = hu; });
    }
    shadeMip(image.data, near, window);
    return;
  }
  for (let p = 0; p < surface.length; p += 3) {
    splat(surface, p, coarse, (pixel, front) => { if (front > near[pixel]) near[pixel] = front; });
  }
  const glow = new Float32Array(size * size);
  for (let n = 0, p = 0; n < cloud.alphas.length; n++, p += 3) {
    const alpha = cloud.alphas[n];
    if (alpha) splat(cloud.places, p, coarse, (pixel) => { if (alpha > glow[pixel]) glow[pixel] = alpha; });
  }
  shadeSurface(image.data, smoothed(near, size, Math.ceil(coarse * 0.7)), glow, size, scale);
}

// Blurs the depths where there is a surface: the splats' steps go, the form stays.
function smoothed(near, size, radius) {
  let from = near;
  for (const [along, across] of [[1, size], [size, 1], [1, size], [size, 1]]) {
    const to = new Float32Array(from.length).fill(NOWHERE);
    for (let line = 0; line < size; line++) {
      for (let place = 0, n = line * across; place < size; place++, n += along) {
        if (from[n] <= NOWHERE) continue;
        let sum = 0, count = 0;
        for (let step = Math.max(-radius, -place); step <= Math.min(radius, size - 1 - place); step++) {
          const depth = from[n + step * along];
          if (depth > NOWHERE) { sum += depth; count += 1; }
        }
        to[n] = sum / count;
      }
    }
    from = to;
  }
  return from;
}

function shadeMip(pixels, brightest, { level, width }) {
  const low = level - width / 2;
  for (let n = 0, p = 0; n < brightest.length; n++, p += 4) {
    const grey = brightest[n] > NOWHERE ? Math.min(255, Math.max(24, ((brightest[n] - low) * 255) / width)) : 0;
    pixels[p] = pixels[p + 1] = pixels[p + 2] = grey;
    pixels[p + 3] = 255;
  }
}

// Lights the surface from the upper left by the slope of its depth, and lays the halo over it.
function shadeSurface(pixels, depth, glow, size, scale) {
  const slope = (n, step) => {
    const here = depth[n], ahead = depth[n + step] > NOWHERE ? depth[n + step] : here;
    const behind = depth[n - step] > NOWHERE ? depth[n - step] : here;
    return ((ahead - behind) * scale) / 2;
  };
  for (let n = 0, p = 0; n < depth.length; n++, p += 4) {
    const halo = (glow[n] / SURFACE) * 0.5;
    let light = 0;
    if (depth[n] > NOWHERE) {
      const right = -slope(n, 1), up = slope(n, size);
      light = 0.14 + 0.84 * Math.max(0, (-0.42 * right + 0.52 * up + 0.74) / Math.hypot(right, up, 1));
    }
    pixels[p] = 140 * halo + 238 * light;
    pixels[p + 1] = 84 * halo + 196 * light;
    pixels[p + 2] = 165 * halo + 150 * light;
    pixels[p + 3] = 255;
  }
}
