"use strict";
const element = (id) => document.getElementById(id);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const read = (id) => JSON.parse(element(id)?.textContent || "{}");
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

function digits(value) {
  if (typeof value !== "number") return String(value ?? "");
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : value.toFixed(size >= 100 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4);
}

// The table of all runs. Lines are created once; sorting and filtering only select and reorder them.
const headers = [...element("runs").tHead.rows[0].cells];
const body = element("runs").tBodies[0];
const filters = [...document.querySelectorAll("[data-filter]")];
const names = new Intl.Collator("en", { numeric: true });
const severity = { failed: 0, "not aligned": 1, unknown: 2, aligned: 3 };
const rows = read("rows");
let shown = rows;
let sorted = { key: null, sign: 1 };

function prepare(row, number) {
  row.number = number;
  row.line = make("tr");
  row.line.tabIndex = -1;
  row.line.dataset.status = row.status;
  for (const header of headers) {
    const { key } = header.dataset;
    const numeric = header.classList.contains("number");
    if (numeric && row[key] != null) row[key] = Number(row[key]); // "Infinity" is a number as well
    const cell = row.line.appendChild(make("td", digits(row[key]), numeric ? "number" : key));
    if (!numeric) cell.title = cell.textContent;
  }
  row.words = [row.status, row.pair, row.method, row.domain, row.remark].join(" ").toLowerCase();
  row.line.addEventListener("click", () => open(row));
  row.line.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" || event.key === " ") open(row);
    else if (step) shown[clamp(shown.indexOf(row) + step, 0, shown.length - 1)].line.focus();
    else return;
    event.preventDefault();
  });
  row.line.addEventListener("focus", () => reachable(row));
}

// Only one line at a time is reachable with the Tab key; the arrow keys move to the others.
function reachable(row) {
  body.querySelector("[tabindex='0']")?.setAttribute("tabindex", -1);
  row?.line.setAttribute("tabindex", 0);
}

function compare(first, second) {
  const [a, b] = [first[sorted.key], second[sorted.key]];
  const missing = (a == null || a === "") - (b == null || b === "");
  if (missing || a == null) return missing;
  return sorted.sign * (typeof a === "number" ? (a > b) - (a < b) : names.compare(a, b));
}

function refresh() {
  const words = element("words").value.toLowerCase().split(/\s+/);
  const failures = element("failures").checked;
  shown = rows.filter(
    (row) => words.every((word) => row.words.includes(word)) && filters.every((one) => !one.value || row[one.dataset.filter] === one.value),
  );
  shown.sort((a, b) => (failures && severity[a.status] - severity[b.status]) || compare(a, b) || a.number - b.number);
  body.replaceChildren(...shown.map((row) => row.line));
  element("count").textContent = `${shown.length} of ${rows.length} runs`;
  reachable(shown[0]);
}

for (const header of headers) {
  header.addEventListener("click", () => {
    const { key } = header.dataset;
    sorted = { key, sign: sorted.key === key ? -sorted.sign : 1 };
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sorted.sign > 0 ? "ascending" : "descending");
    refresh();
  });
}
element("words").addEventListener("input", refresh);
for (const control of [element("failures"), ...filters]) control.addEventListener("change", refresh);
rows.forEach(prepare);
refresh();

// The viewer of one run. What it shows is read from the page when the run is opened.
const viewer = element("viewer");
const stack = viewer.querySelector(".stack");
const [under, over] = stack.querySelectorAll("img");
const slider = element("slider");
const ends = { swipe: ["fixed", "moving"], blend: ["fixed", "moving"], checkerboard: ["small tiles", "large tiles"] };
let current = null;
let details = {};

function open(row) {
  current = row;
  details = read(`row-${row.number}`);
  element("name").textContent = `${row.pair} — ${row.method}`;
  element("place").textContent = `${shown.indexOf(row) + 1 || "–"} of ${shown.length}`;
  element("outcome").replaceChildren(outcome(row));
  viewer.dataset.status = row.status;
  element("notes").replaceChildren(...(details.notes ?? []).map((note) => make("li", note)));
  element("scores").replaceChildren(
    ...Object.entries(details.scores ?? {}).flatMap(([name, value]) => [make("dt", name.replaceAll("_", " ")), make("dd", digits(value))]),
  );
  const settings = Object.entries(details.settings ?? {});
  element("settings").hidden = !settings.length;
  element("settings").querySelector("pre").textContent = settings
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join("\n");
  element("curves").replaceChildren(...plot(details.curves ?? {}));
  offer(row);
  showPictures();
  if (!viewer.open) viewer.showModal();
}

function outcome(row) {
  const line = make("span");
  line.append(make("span", row.status, "status"), details.error ? "" : ` ${details.stop ?? ""}`);
  if (details.error) line.append(make("p", details.error, "error"));
  return line;
}

// The other methods and seeds of the same pair.
function offer(row) {
  const others = rows.filter((other) => other.pair === row.pair);
  const seeds = new Set(others.map((other) => other.seed)).size > 1;
  element("others").replaceChildren(
    ...others.map((other) => new Option(other.method + (seeds ? `, seed ${other.seed}` : ""), other.number, false, other === row)),
  );
}

function picture(image, name) {
  const source = element(`picture-${details.pictures?.[name]}`)?.textContent;
  image.hidden = !source;
  if (source) image.src = source;
  else image.removeAttribute("src");
  return Boolean(source);
}

function showPictures() {
  const { side } = stack.dataset;
  const found = [picture(under, "fixed"), picture(over, side)];
  element("colours").hidden = side !== "error" || !found[1];
  element("pictures").hidden = !found.some(Boolean);
  element("blank").hidden = found.every(Boolean);
  element("blank").textContent = `There is no picture of ${found[0] ? "" : "the fixed image"}${found.some(Boolean) ? "" : " and "}${
    found[1] ? "" : side === "error" ? "the remaining error" : `the moving image ${side} registration`
  }.`;
  drawLandmarks();
}

// Landmarks are given in shares of the picture: (0, 0) is its upper left corner, (1, 1) its lower right corner.
function drawLandmarks() {
  const image = under.naturalWidth ? under : over;
  const [width, height] = [image.naturalWidth || 1, image.naturalHeight || 1];
  const drawing = stack.querySelector("svg");
  const radius = Math.max(width, height) / 90;
  const inPixels = (points) => (points ?? []).map((point) => point?.length === 2 && [point[0] * width, point[1] * height]);
  const there = (point) => Boolean(point) && point.every(Number.isFinite);
  const points = Object.fromEntries(["fixed", "before", "after"].map((name) => [name, inPixels(details.points?.[name])]));
  stack.style.setProperty("--ratio", width / height);
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.querySelector(".fixed").replaceChildren(
    ...points.fixed.filter(there).map(([x, y]) => svg("circle", { cx: x, cy: y, r: radius })),
  );
  for (const name of ["before", "after"]) {
    const marks = points[name].flatMap((point, index) => {
      if (!there(point)) return [];
      const [x, y] = point;
      const target = points.fixed[index];
      const r = radius * 0.8;
      const cross = svg("path", { d: `M${x - r} ${y - r}l${2 * r} ${2 * r}m${-2 * r} 0l${2 * r} ${-2 * r}` });
      return there(target) ? [svg("line", { x1: x, y1: y, x2: target[0], y2: target[1] }), cross] : [cross];
    });
    drawing.querySelector(`.${name}`).replaceChildren(...marks);
  }
  element("key").hidden = !points.fixed.length;
}

function svg(tag, attributes, text = "") {
  const made = document.createElementNS(stack.querySelector("svg").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function step(by) {
  const place = shown.indexOf(current);
  const next = shown[clamp(place + by, 0, shown.length - 1)];
  if (next) open(next);
}

under.addEventListener("load", drawLandmarks);
over.addEventListener("load", drawLandmarks);
element("previous").addEventListener("click", () => step(-1));
element("next").addEventListener("click", () => step(1));
element("close").addEventListener("click", () => viewer.close());
element("others").addEventListener("change", (event) => open(rows[event.target.value]));
element("sides").addEventListener("change", (event) => {
  stack.dataset.side = event.target.value;
  showPictures();
});
element("modes").addEventListener("change", (event) => {
  stack.dataset.mode = event.target.value;
  const [least, most] = slider.parentElement.querySelectorAll("span");
  [least.textContent, most.textContent] = ends[event.target.value];
});
element("landmarks").addEventListener("change", (event) => stack.querySelector("svg").toggleAttribute("hidden", !event.target.checked));
slider.addEventListener("input", () => stack.style.setProperty("--at", slider.value / 100));
for (const kind of ["pointerdown", "pointermove"]) {
  stack.addEventListener(kind, (event) => {
    if (stack.dataset.mode !== "swipe" || !(event.buttons & 1)) return;
    const { left, width } = stack.getBoundingClientRect();
    slider.value = (100 * (event.clientX - left)) / width;
    slider.dispatchEvent(new Event("input"));
  });
}
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
  if (!by || event.target.matches("select, input")) return; // these use the arrow keys themselves
  event.preventDefault();
  step(by);
});
viewer.addEventListener("close", () => {
  if (body.contains(current.line)) current.line.focus();
});

// The curves of one run: similarity by step, total and every level.
const inks = ["currentColor", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31"];

function plot(curves) {
  const { step: steps, ...series } = curves;
  const lines = Object.entries(series).map(([name, values]) => [
    name,
    values.map((value, index) => [steps?.[index] ?? index, value]).filter((point) => point.every(Number.isFinite)),
  ]);
  const points = lines.flatMap((line) => line[1]);
  if (!points.length) return [];
  const [width, height, left, right, top, bottom] = [480, 220, 50, 10, 8, 24];
  const x = scale(points.map((point) => point[0]), left, width - right);
  const y = scale(points.map((point) => point[1]), height - bottom, top);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "similarity by step" });
  for (const at of x.ticks) drawing.append(svg("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, at));
  for (const at of y.ticks) {
    drawing.append(svg("line", { x1: left, x2: width - right, y1: y(at), y2: y(at), class: "axis" }));
    drawing.append(svg("text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, at));
  }
  const key = make("div", "", "names");
  lines.forEach(([name, path], index) => {
    const stroke = inks[index % inks.length];
    const d = "M" + path.map((point) => `${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("L");
    if (path.length) drawing.append(svg("path", { d, stroke, "data-name": name }));
    const entry = key.appendChild(make("span", ` ${name.replace(/^level(\d+)$/, "level $1")}`));
    entry.prepend(Object.assign(make("b", "—"), { style: `color: ${stroke}` }));
  });
  return [make("h3", "Similarity by step"), drawing, key];
}

// Map values to pixels from `start` to `end`, with ticks at round values.
function scale(values, start, end) {
  let [least, most] = [Math.min(...values), Math.max(...values)];
  if (least === most) [least, most] = [least - 0.5, most + 0.5];
  const rough = (most - least) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const onto = (value) => start + ((value - least) / (most - least)) * (end - start);
  onto.ticks = [];
  for (let index = Math.ceil(least / gap); index * gap <= most; index++) onto.ticks.push(Number((index * gap).toPrecision(6)));
  return onto;
}
