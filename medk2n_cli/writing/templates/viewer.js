"use strict";
// Volumes are bytes with i (to the patient's left) fastest, then j (to posterior), then k (to superior).
const study = JSON.parse(document.getElementById("study").textContent);
const AMBER = "#ffb000", BLUE = "#56b4e9";
const element = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// Voxels -> pictures seen from the feet, from the front and from the left; `letters` are top, right, bottom, left.
const PLANES = {
  axial: { axes: [0, 1, 2], flip: false, letters: "ALPR" },
  coronal: { axes: [0, 2, 1], flip: true, letters: "SLIR" },
  sagittal: { axes: [1, 2, 0], flip: true, letters: "SPIA" },
};
const outside = study.first.map((n, axis) => n - study.margins[axis]); // in the grid, of the first voxel kept
const at = study.start.map((n, axis) => n - outside[axis]);
const millimetres = (axis) => study.shape[axis] * study.spacing[axis];
const SCALE = 1000 / Math.max(millimetres(0), millimetres(1), millimetres(2)); // pixels of a canvas per mm

async function unpack(volume) {
  const packed = Uint8Array.from(atob(volume.data), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const v = new Uint8Array(await new Response(stream).arrayBuffer());
  const steps = [volume.step, volume.step, 1], [ni, nj, nk] = study.shape.map((n, axis) => n / steps[axis]);
  for (let k = 0, n = 0; k < nk; k++)
    for (let j = 0; j < nj; j++)
      for (let i = 0; i < ni; i++, n++) v[n] += Math.floor(((i && v[n - 1]) + (j && v[n - ni]) + (k && v[n - ni * nj])) / 3);
  return Object.assign(volume, { voxels: v, sizes: [ni, nj, nk], steps, data: null });
}

// One slice of a volume as a small canvas, through a table from level to 0xAABBGGRR.
function slice(volume, plane, table) {
  const [across, down, through] = plane.axes, strides = [1, volume.sizes[0], volume.sizes[0] * volume.sizes[1]];
  const wide = volume.sizes[across], high = volume.sizes[down];
  const image = new ImageData(wide, high), pixels = new Uint32Array(image.data.buffer);
  const start = Math.floor(at[through] / volume.steps[through]) * strides[through];
  for (let y = 0, n = 0; y < high; y++) {
    const row = start + (plane.flip ? high - 1 - y : y) * strides[down];
    for (let x = 0; x < wide; x++, n++) pixels[n] = table[volume.voxels[row + x * strides[across]]];
  }
  const small = Object.assign(document.createElement("canvas"), { width: wide, height: high });
  small.getContext("2d").putImageData(image, 0, 0);
  return small;
}

function greys(volume) {
  const low = (element("level").valueAsNumber - element("width").valueAsNumber / 2) / 100;
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const value = ((level / volume.levels) * study.headroom - low) / (element("width").valueAsNumber / 100);
    return 0xff000000 | (Math.round(255 * clamp(value, 0, 1)) * 0x010101);
  });
}

const heat = Uint32Array.from(study.colours, ([r, g, b], level) => {
  const opacity = Math.round((204 * level) / (study.colours.length - 1)); // 0.8 at most, so that anatomy shows through
  return (opacity << 24) | (b << 16) | (g << 8) | r;
});

const chosen = (kind) => study[kind][element(kind).selectedIndex];
const share = () => element("blend").valueAsNumber;
const synthetic = () => share() > 0 || element("error").checked;

function caption() {
  const made = chosen("made").name, acquired = chosen("acquired").name, part = share();
  const whole = { 0: `acquired ${acquired}`, 100: `SYNTHETIC ${made}` };
  const mixed = whole[part] || `${part} % SYNTHETIC ${made} + ${100 - part} % ${acquired}`;
  return element("error").checked ? `${mixed} + error of ${made}` : mixed;
}

// Pixels of the canvas that make a line of text readable at the size it is shown in.
const textSize = (canvas) => clamp((14 * canvas.width) / (canvas.clientWidth || canvas.width), 26, canvas.width / 20);

// Words are part of the picture, so that no copy of it goes without them.
function write(context, text, x, y, colour) {
  const size = textSize(context.canvas), room = context.canvas.width - 16;
  Object.assign(context, { font: `600 ${size}px system-ui, sans-serif`, lineWidth: size / 4, lineJoin: "round" });
  Object.assign(context, { strokeStyle: "#000", fillStyle: colour });
  context.strokeText(text, x, y, room);
  context.fillText(text, x, y, room);
}

function annotate(context, plane) {
  const { width, height } = context.canvas, line = textSize(context.canvas);
  const places = [[width / 2, 2.2 * line], [width - line, height / 2], [width / 2, height - 2.2 * line], [line, height / 2]];
  Object.assign(context, { textBaseline: "middle", textAlign: "center" });
  places.forEach(([x, y], side) => write(context, plane.letters[side], x, y, AMBER));
  write(context, caption(), width / 2, line, synthetic() ? AMBER : "#fff");
  if (synthetic()) write(context, study.mark, width / 2, height - line, AMBER);
}

// Where the other two planes cut this one: ticks at the border, which hide nothing.
function ticks(context, plane) {
  const { width, height } = context.canvas, [across, down] = plane.axes;
  const x = ((at[across] + 0.5) / study.shape[across]) * width, part = (at[down] + 0.5) / study.shape[down];
  const y = (plane.flip ? 1 - part : part) * height;
  context.fillStyle = BLUE;
  for (const end of [0, height - 16]) context.fillRect(x - 1.5, end, 3, 16);
  for (const end of [0, width - 16]) context.fillRect(end, y - 1.5, 16, 3);
}

function drawPlane(plane) {
  const context = plane.canvas.getContext("2d");
  const layer = (volume, colours, opacity) => {
    context.globalAlpha = opacity;
    context.drawImage(slice(volume, plane, colours), 0, 0, plane.canvas.width, plane.canvas.height);
  };
  layer(chosen("acquired"), greys(chosen("acquired")), 1);
  layer(chosen("made"), greys(chosen("made")), share() / 100);
  if (element("error").checked) layer(chosen("made").error, heat, 1);
  context.globalAlpha = 1;
  ticks(context, plane);
  annotate(context, plane);
}

function describe(plane) {
  const through = plane.axes[2], shown = at[through] + outside[through] + 1;
  const quality = plane.name === "axial" ? chosen("made").quality[at[through] - study.margins[through]] : undefined;
  const said = `${shown} of ${study.grid[through]}` + (quality === undefined ? "" : `, predicted SSIM ${quality.toFixed(2)}`);
  plane.range.value = shown;
  plane.range.setAttribute("aria-valuetext", said);
  plane.output.textContent = said;
  const words = [`${plane.name} slice ${said}`, caption(), ...(synthetic() ? [study.mark] : [])];
  plane.canvas.setAttribute("aria-label", words.join(", "));
}

const coarse = (step) => (step > 1 ? ` and ${step} × ${step} voxels as one` : "");
const grain = ({ name, levels, step }) => `${name} in ${levels + 1} grey levels${coarse(step)}`;

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const id of ["blend", "width", "level"])
      document.querySelector(`output[for=${id}]`).textContent = `${element(id).value} %`;
    element("words").textContent = chosen("made").words;
    element("grain").textContent = ["acquired", "made"].map((kind) => grain(chosen(kind))).join(", ");
    for (const plane of Object.values(PLANES)) {
      drawPlane(plane);
      describe(plane);
    }
  });
}

function go(axis, index) {
  at[axis] = clamp(Math.round(index), study.margins[axis], study.margins[axis] + study.sizes[axis] - 1);
  redraw();
}

function turn(id, value) {
  element(id).value = value;
  redraw();
}

const swap = () => turn("blend", share() < 50 ? 100 : 0);

function onKey(plane, event) {
  const through = plane.axes[2], slices = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 };
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in slices) go(through, at[through] + slices[event.key]);
  else if (event.key === "ArrowLeft") turn("blend", share() - 5);
  else if (event.key === "ArrowRight") turn("blend", share() + 5);
  else if (event.key === " ") swap();
  else if (event.key.toLowerCase() === "e") element("error").click();
  else return;
  event.preventDefault();
}

function onWheel(plane, event) {
  if (event.ctrlKey) return; // the browser's own zoom
  event.preventDefault();
  plane.rolled = (plane.rolled || 0) + event.deltaY * (event.deltaMode ? 30 : 1);
  if (Math.abs(plane.rolled) < 30) return; // a notch of a wheel is more, the steps of a touchpad are less
  go(plane.axes[2], at[plane.axes[2]] - Math.sign(plane.rolled));
  plane.rolled = 0;
}

function onDrag(plane, event) {
  const width = element("width").valueAsNumber, level = element("level").valueAsNumber, over = new AbortController();
  let dragged = false;
  const listen = (kind, act) => plane.canvas.addEventListener(kind, act, { signal: over.signal });
  plane.canvas.setPointerCapture(event.pointerId);
  listen("pointermove", (now) => {
    const right = now.clientX - event.clientX, down = now.clientY - event.clientY;
    dragged ||= Math.hypot(right, down) > 4;
    if (!dragged) return;
    turn("width", width + right / 2);
    turn("level", level + down / 4);
  });
  listen("pointerup", (now) => {
    over.abort();
    if (!dragged) onClick(plane, now);
  });
  listen("pointercancel", () => over.abort());
}

function onClick(plane, event) {
  const place = plane.canvas.getBoundingClientRect(), [across, down] = plane.axes;
  const part = (event.clientY - place.top) / place.height;
  go(across, ((event.clientX - place.left) / place.width) * study.shape[across] - 0.5);
  go(down, (plane.flip ? 1 - part : part) * study.shape[down] - 0.5);
}

function prepare(name, plane) {
  const figure = element(name), [across, down, through] = plane.axes;
  const [canvas, range, output] = ["canvas", "input", "output"].map((kind) => figure.querySelector(kind));
  Object.assign(plane, { name, canvas, range, output });
  canvas.width = Math.round(SCALE * millimetres(across));
  canvas.height = Math.round(SCALE * millimetres(down));
  Object.assign(range, { min: study.first[through] + 1, max: study.first[through] + study.sizes[through] });
  range.addEventListener("input", () => go(through, range.valueAsNumber - 1 - outside[through]));
  canvas.addEventListener("keydown", (event) => onKey(plane, event));
  canvas.addEventListener("wheel", (event) => onWheel(plane, event), { passive: false });
  canvas.addEventListener("pointerdown", (event) => event.button === 0 && onDrag(plane, event));
}

const TOO_OLD = "This browser is too old: it needs Chrome or Edge 88, Firefox 113, Safari 16.4, or later. " +
  "The report beside this file shows slices in any browser.";

async function start() {
  if (!("DecompressionStream" in window)) throw new Error(TOO_OLD);
  await Promise.all([...study.acquired, ...study.made, ...study.made.map((m) => m.error)].map(unpack));
  for (const kind of ["acquired", "made"]) element(kind).append(...study[kind].map((v) => new Option(v.name)));
  Object.entries(PLANES).forEach(([name, plane]) => prepare(name, plane));
  for (const id of ["acquired", "made", "blend", "width", "level", "error"]) element(id).addEventListener("input", redraw);
  element("swap").addEventListener("click", swap);
  element("reset").addEventListener("click", () => [["width", 100], ["level", 50]].forEach(([id, value]) => turn(id, value)));
  window.addEventListener("resize", redraw);
  element("trouble").hidden = true;
  document.querySelector("main").hidden = false;
  redraw();
}
start().catch((failure) => { element("trouble").firstChild.textContent = failure.message; });
