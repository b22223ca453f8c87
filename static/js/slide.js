// The slide page: viewer, maps, patches, keys.

import { colour, greySurface, load, paintGrey, paintPatches, patchSurface } from "./maps.js";
import { Viewer } from "./viewer.js";

const { OpenSeadragon } = window;

const box = document.querySelector("[data-viewer]");
const find = (name) => document.querySelector(`[data-${name}]`);
const percent = (value) => `${(100 * value).toFixed(1)}\u00a0%`;
const MAPS = ["patch", "activation"];

const canvas = find("canvas");
let viewer = null;
let picture = null;
// Data of the analysis; empty until it is done.
let data, patches, ranked, surface, activation;
// Map settings are kept in this tab, so that they stay the same from image to image.
const kept = JSON.parse(sessionStorage.getItem("viewer") || "{}");
let layer = "none";
// Set while M is held: the layer to return to.
let before = null;
let threshold = 0;
let shown = null;

readAnalysis();
start();
// The analysis ended while the page was open.
document.addEventListener("parts", ({ detail: names }) => {
  if (!names.includes("maps")) return;
  readAnalysis();
  if (picture) showAnalysis();
});

function readAnalysis() {
  data = JSON.parse(document.getElementById("viewer-data").textContent);
  patches = data.patches || [];
  // Patches without tissue have no value and no rank.
  ranked = patches.map((patch, index) => index).filter((index) => patches[index][2] !== null).sort((a, b) => patches[b][2] - patches[a][2]);
  surface = patches.length ? patchSurface(data) : null;
  activation = null;
}

async function start() {
  const loading = find("loading");
  try {
    loading.hidden = !data.tiles;
    const source = data.tiles ? await tileSource(data.tiles) : { type: "image", url: data.view };
    canvas.hidden = false;
    viewer = new Viewer(canvas, data.width, data.height);
    await viewer.open(source);
    picture = await load(data.view);
  } catch {
    canvas.hidden = true;
    box.classList.add("failed");
    loading.hidden = false;
    loading.textContent = "The image could not be loaded. Reload the page to try again.";
    return;
  }
  loading.hidden = true;
  box.classList.add("ready");
  find("zoom").hidden = false;
  showAnalysis();
}

function showAnalysis() {
  if (!surface) return;
  viewer.onhover = hover;
  viewer.onpick = pick;
  legend();
  for (const name of ["opacity", "threshold"]) if (kept[name]) setShare(name, kept[name]);
  viewer.opacity = find("opacity").value / 100;
  threshold = find("threshold").value / 100;
  find("grid").checked = Boolean(kept.grid);
  find("marks").checked = kept.marks !== false;
  showBoxes();
  setLayer(MAPS.includes(kept.layer) ? kept.layer : "none");
  for (const target of document.querySelectorAll("[data-patch-canvas]")) drawPatch(target, Number(target.dataset.patchCanvas));
}

// Tiles are created on first use, for one slide at a time.
async function tileSource(address) {
  for (let attempt = 0; attempt < 6; attempt += 1) {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (answer.ok) {
      const folder = address.replace(/\.json$/, "/");
      return { ...(await answer.json()), getTileUrl: (level, column, row) => `${folder}${level}/${column}_${row}.jpg` };
    }
    if (answer.status !== 429) break;
    await new Promise((resume) => { setTimeout(resume, 1000 * (Number(answer.headers.get("Retry-After")) || 5)); });
  }
  throw new Error(`${address} could not be loaded`);
}

function keep(name, value) {
  kept[name] = value;
  sessionStorage.setItem("viewer", JSON.stringify(kept));
}

function setShare(name, value) {
  find(name).value = value;
  find(`${name}-out`).textContent = `${value} %`;
}

function showBoxes() {
  viewer.boxes = find("grid").checked ? patches.map(bounds) : [];
  viewer.marks = find("marks").checked ? data.marked.map((index) => bounds(patches[index])) : [];
  viewer.draw();
}

function say(text) {
  const note = find("note");
  if (!note) return;
  note.hidden = !text;
  note.textContent = text;
}

async function setLayer(name) {
  layer = name;
  for (const button of document.querySelectorAll("[data-layer]")) button.setAttribute("aria-pressed", String(button.dataset.layer === name));
  find("legend").hidden = name === "none";
  find("legend-low").textContent = name === "activation" ? "benign" : "0 % malignant";
  find("legend-high").textContent = name === "activation" ? "malignant" : "100 %";
  if (name === "activation" && !activation) {
    try {
      activation = await greySurface(data.activation);
    } catch {
      say("The activation map could not be loaded.");
      return;
    }
  }
  paint();
}

function chooseLayer(name) {
  before = null;
  keep("layer", name);
  if (name !== "none") keep("map", name);
  setLayer(name);
}

// While M is held, the map chosen last is shown, or the plain image where a map is on.
function hold() {
  if (before !== null) return;
  before = layer;
  setLayer(layer === "none" ? (MAPS.includes(kept.map) ? kept.map : "patch") : "none");
}

function release() {
  if (before === null) return;
  setLayer(before);
  before = null;
}

function paint() {
  viewer.smooth = layer === "activation";
  if (layer === "patch") viewer.layer = paintPatches(surface, data, data.colours, threshold);
  else if (layer === "activation" && activation) viewer.layer = paintGrey(activation, data.colours, threshold);
  else viewer.layer = null;
  viewer.draw();
}

function legend() {
  const target = find("legend-canvas");
  const context = target.getContext("2d");
  for (let x = 0; x < target.width; x += 1) {
    context.fillStyle = `rgb(${colour(data.colours, x / (target.width - 1)).join(" ")})`;
    context.fillRect(x, 0, 1, target.height);
  }
}

const bounds = ([x, y]) => [x, y, Math.min(data.patch, data.width - x), Math.min(data.patch, data.height - y)];

// The patch with the nearest centre, for a click where patches overlap.
function nearest(x, y) {
  let best = null;
  let least = Infinity;
  patches.forEach((patch, index) => {
    const [left, top, width, height] = bounds(patch);
    if (x < left || y < top || x >= left + width || y >= top + height) return;
    const far = Math.hypot(x - left - width / 2, y - top - height / 2);
    if (far < least) [best, least] = [index, far];
  });
  return best;
}

function hover(x, y, event) {
  const tip = find("tip");
  const index = x === null || !surface ? null : nearest(x, y);
  tip.hidden = index === null;
  light(index);
  if (index === null) return;
  const value = patches[index][2];
  let text = value === null ? `Patch ${index + 1}: no tissue` : `Patch ${index + 1}: ${percent(value)} malignant`;
  if (layer === "activation" && activation) {
    const i = Math.min(activation.width - 1, Math.floor((x / data.width) * activation.width));
    const j = Math.min(activation.height - 1, Math.floor((y / data.height) * activation.height));
    const here = activation.values[j * activation.width + i];
    if (!Number.isNaN(here)) text += ` · here ${percent(here)}`;
  }
  tip.textContent = text;
  const stage = find("stage").getBoundingClientRect();
  const left = Math.min(event.clientX - stage.left + 14, stage.width - tip.offsetWidth - 6);
  const top = Math.min(event.clientY - stage.top + 16, stage.height - tip.offsetHeight - 6);
  tip.style.setProperty("transform", `translate(${Math.max(6, left)}px, ${top}px)`);
}

function light(index) {
  viewer.lit = index === null ? null : bounds(patches[index]);
  for (const button of document.querySelectorAll("[data-patch]")) button.classList.toggle("lit", Number(button.dataset.patch) === index);
  viewer.draw();
}

function pick(x, y) {
  const index = surface ? nearest(x, y) : null;
  if (index !== null) open(index);
}

// Draws a patch from the image; if that is reduced, the full-resolution patch is then loaded from the server.
// Stops if ``isWanted`` returns false, because another patch may have been opened in the meantime.
async function drawPatch(target, index, withActivation = false, isWanted = () => true) {
  const [x, y, width, height] = bounds(patches[index]);
  const context = target.getContext("2d");
  const share = picture.naturalWidth / data.width;
  const size = target.width / data.patch;
  const to = [0, 0, width * size, height * size];
  context.clearRect(0, 0, target.width, target.height);
  context.drawImage(picture, x * share, y * share, width * share, height * share, ...to);
  if (data.tiles && target.width > 200) {
    try {
      const whole = await load(`${data.patch_url}${index}.png?analysis=${data.analysis}`);
      if (!isWanted()) return;
      context.drawImage(whole, ...to);
    } catch { /* the reduced one stays */ }
  }
  if (withActivation && activation) {
    const layerCanvas = paintGrey(activation, data.colours, 0);
    const scale = activation.width / data.width;
    context.globalAlpha = 0.55;
    context.drawImage(layerCanvas, x * scale, y * scale, width * scale, height * scale, ...to);
    context.globalAlpha = 1;
  }
}

async function open(index) {
  const dialog = find("dialog");
  shown = index;
  const [x, y, value] = patches[index];
  const [, , width, height] = bounds(patches[index]);
  const rank = ranked.indexOf(index);
  find("dialog-title").textContent = `Patch ${index + 1} of ${patches.length}`;
  const said = value === null ? "No tissue: not included in the result" : `Probability of malignancy (uncalibrated): ${percent(value)}`;
  const ranks = value === null ? "" : ` · rank ${rank + 1} of ${ranked.length} by suspicion`;
  find("dialog-text").textContent = `${said} · at ${x}, ${y} px${ranks}`;
  find("dialog-caption").textContent = width < data.patch || height < data.patch ? "The input of the network, which is extended by mirroring at the image’s edge" : "The input of the network";
  find("dialog-prev").disabled = rank === -1 || rank === ranked.length - 1;
  find("dialog-next").disabled = rank <= 0;
  if (!dialog.open) dialog.showModal();
  const isShown = () => shown === index;
  drawPatch(find("dialog-canvas"), index, false, isShown);
  light(index);
  const second = find("dialog-activation");
  second.getContext("2d").clearRect(0, 0, second.width, second.height);
  if (!activation) activation = await greySurface(data.activation).catch(() => null);
  if (isShown()) drawPatch(second, index, true, isShown);
}

// Controls and patch lists are replaced with the result, so the listeners are on a parent element.
box.addEventListener("input", ({ target }) => {
  const { value } = target;
  if ("opacity" in target.dataset) {
    viewer.opacity = value / 100;
    setShare("opacity", value);
    keep("opacity", value);
    viewer.draw();
  } else if ("threshold" in target.dataset) {
    threshold = value / 100;
    setShare("threshold", value);
    keep("threshold", value);
    paint();
  } else if ("grid" in target.dataset || "marks" in target.dataset) {
    keep("grid" in target.dataset ? "grid" : "marks", target.checked);
    showBoxes();
  }
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-patch], [data-layer]");
  if (!button || !picture) return;
  if (button.dataset.layer) chooseLayer(button.dataset.layer);
  else open(Number(button.dataset.patch));
});
const lists = document.querySelector("[data-live=patches]");
const lightOf = ({ target }) => {
  const button = target.closest("[data-patch]");
  if (picture) light(button ? Number(button.dataset.patch) : null);
};
lists.addEventListener("pointerover", lightOf);
lists.addEventListener("focusin", lightOf);
lists.addEventListener("pointerleave", () => { if (picture) light(null); });

const step = (by) => open(ranked[ranked.indexOf(shown) + by]);
find("dialog-prev").addEventListener("click", () => step(1));
find("dialog-next").addEventListener("click", () => step(-1));
find("dialog").addEventListener("keydown", (event) => {
  const button = { ArrowLeft: "dialog-prev", ArrowRight: "dialog-next" }[event.key];
  if (!button) return;
  find(button).click();
  // A disabled button receives no keys; the other one does.
  if (find(button).disabled) find(button === "dialog-prev" ? "dialog-next" : "dialog-prev").focus();
});
find("dialog").addEventListener("close", () => light(null));

const actions = {
  in: () => viewer?.zoom(1.5),
  out: () => viewer?.zoom(1 / 1.5),
  fit: () => viewer?.fit(),
  rotate: () => viewer?.rotate(90),
  full: () => (OpenSeadragon.isFullScreen() ? OpenSeadragon.exitFullScreen() : OpenSeadragon.requestFullScreen(box)),
};
find("zoom").addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=range], [type=checkbox]), textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "n" || key === "p") document.querySelector(`a[rel="${key === "n" ? "next" : "prev"}"]`)?.click();
  else if (key === "+" || key === "=") actions.in();
  else if (key === "-") actions.out();
  else if (key === "0") actions.fit();
  else if (key >= "1" && key <= "7") viewer?.step(Number(key));
  else if (key === "r") viewer?.rotate(event.shiftKey ? -90 : 90);
  else if (key === "f") actions.full();
  else if (key === "m" && surface && picture) hold();
});
document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "m") release(); });
addEventListener("blur", release);
document.addEventListener("fullscreenchange", () => {
  const button = find("zoom").querySelector("[data-do=full]");
  button.setAttribute("aria-pressed", String(OpenSeadragon.isFullScreen()));
});
if (!OpenSeadragon.supportsFullScreen) find("zoom").querySelector("[data-do=full]").hidden = true;
