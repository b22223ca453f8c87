// Map values (0 to 1) over the slide, and their colours.

// Mean of the patches that cover each point, stored for the rectangles between all patch edges. NaN where no patch has
// tissue.
export function patchSurface(data) {
  const xs = edges(data.patches.map((patch) => patch[0]), data.patch, data.width);
  const ys = edges(data.patches.map((patch) => patch[1]), data.patch, data.height);
  const columns = xs.length - 1;
  const sum = new Float32Array(columns * (ys.length - 1));
  const count = new Uint16Array(sum.length);
  const column = new Map(xs.map((x, i) => [x, i]));
  const row = new Map(ys.map((y, i) => [y, i]));
  for (const [x, y, value] of data.patches) {
    if (value === null) continue;
    const right = Math.min(x + data.patch, data.width);
    const bottom = Math.min(y + data.patch, data.height);
    for (let j = row.get(y); ys[j] < bottom; j += 1) {
      for (let i = column.get(x); xs[i] < right; i += 1) {
        sum[j * columns + i] += value;
        count[j * columns + i] += 1;
      }
    }
  }
  const values = sum.map((total, i) => (count[i] ? total / count[i] : NaN));
  return {
    xs, ys, values, columns,
    at(x, y) {
      if (x < 0 || y < 0 || x >= data.width || y >= data.height) return null;
      return values[below(ys, y) * columns + below(xs, x)];
    },
  };
}

function edges(starts, length, end) {
  const found = new Set([0, end]);
  for (const start of starts) { found.add(start); found.add(Math.min(start + length, end)); }
  return [...found].sort((a, b) => a - b);
}

function below(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle; else high = middle;
  }
  return low;
}

// A greyscale image (0 benign, 255 malignant) as values 0 to 1; NaN where it is transparent.
export async function greySurface(address) {
  const image = await load(address);
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const values = new Float32Array(canvas.width * canvas.height);
  for (let i = 0; i < values.length; i += 1) values[i] = pixels[4 * i + 3] ? pixels[4 * i] / 255 : NaN;
  return { width: canvas.width, height: canvas.height, values };
}

export function load(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.addEventListener("load", () => resolve(image));
    image.addEventListener("error", () => reject(new Error(`${address} could not be loaded`)));
    image.src = address;
  });
}

// The colour of a value as [r, g, b], interpolated in the colour table.
export function colour(table, value) {
  const place = Math.min(Math.max(value, 0), 1) * (table.length - 1);
  const i = Math.min(Math.floor(place), table.length - 2);
  const part = place - i;
  return table[i].map((channel, c) => Math.round(channel + (table[i + 1][c] - channel) * part));
}

const EMPTY = "rgb(128 128 128 / 50%)";

// Drawn to scale, because the rectangles have different sizes. Areas without tissue are grey.
export function paintPatches(surface, data, table, threshold) {
  const scale = Math.min(1, 2048 / Math.max(data.width, data.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(data.width * scale));
  canvas.height = Math.max(1, Math.round(data.height * scale));
  const context = canvas.getContext("2d");
  surface.values.forEach((value, i) => {
    if (value < threshold) return;
    const column = i % surface.columns;
    const row = (i - column) / surface.columns;
    const [left, right] = [surface.xs[column], surface.xs[column + 1]].map((x) => Math.round(x * scale));
    const [top, bottom] = [surface.ys[row], surface.ys[row + 1]].map((y) => Math.round(y * scale));
    context.fillStyle = Number.isNaN(value) ? EMPTY : `rgb(${colour(table, value).join(" ")})`;
    context.fillRect(left, top, right - left, bottom - top);
  });
  return canvas;
}

export function paintGrey(surface, table, threshold) {
  const canvas = document.createElement("canvas");
  canvas.width = surface.width;
  canvas.height = surface.height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(surface.width, surface.height);
  surface.values.forEach((value, i) => {
    if (Number.isNaN(value)) return;
    const [red, green, blue] = colour(table, value);
    pixels.data.set([red, green, blue, value < threshold ? 0 : 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}
