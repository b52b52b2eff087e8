// Fetches and unpacks what qc/review/payloads.py packs: a uint32, a JSON header, arrays at multiples of eight.

const KINDS = { int16: Int16Array, uint8: Uint8Array };

async function fetchPacked(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${answer.status}: the images could not be read`);
  const buffer = await answer.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const { name, type, shape, offset } of header.arrays) {
    const size = shape.reduce((product, n) => product * n, 1);
    arrays[name] = { values: new KINDS[type](buffer, 4 + length + offset, size), shape };
  }
  return { header, arrays };
}

// One nodule's volumes. Indices are (z, y, x); z runs to the head, y to the back, x to the patient's left.
export async function fetchVolume(view) {
  const [scan, overlays] = await Promise.all([fetchPacked(view.ct), fetchPacked(view.overlays)]);
  const { options, readers, trimap } = overlays.arrays;
  const [count, ...boxShape] = options.shape;
  const size = boxShape[0] * boxShape[1] * boxShape[2];
  return {
    hu: scan.arrays.ct.values,
    shape: scan.arrays.ct.shape,
    spacing: scan.header.spacing_mm,
    unmeasured: scan.header.unmeasured,
    box: { start: overlays.header.start, shape: boxShape },
    middle: overlays.header.middle,
    extent: overlays.header.extent,
    options: Array.from({ length: count }, (_, place) => options.values.subarray(place * size, (place + 1) * size)),
    readers: readers ? readers.values : null,
    readerCount: overlays.header.readers,
    trimap: trimap ? trimap.values : null,
    solids: new Map(),
  };
}
