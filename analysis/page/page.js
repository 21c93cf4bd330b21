"use strict";

// Tables that a heading sorts. Numbers come first, in their order, then words, then empty cells.

function sortKey(text) {
  const plain = text.replaceAll(",", "").replaceAll("−", "-").trim();
  if (plain === "" || plain === "–") return [2, 0];
  const match = /^\[?([<>~]?)\s*([+-]?(?:∞|\d+\.?\d*(?:e[+-]?\d+)?))/.exec(plain);
  if (!match) return [1, plain];
  const value = Number(match[2].replace("∞", "Infinity"));
  return [0, match[1] === "<" ? value * (1 - 1e-9) : value];
}

function compareKeys([kind, value], [otherKind, other], direction) {
  if (kind !== otherKind) return kind - otherKind;
  if (kind === 1) return direction * value.localeCompare(other, undefined, { numeric: true });
  return value === other ? 0 : direction * (value < other ? -1 : 1);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.scope = "col";
    const name = heading.textContent.trim();
    if (!name) {
      heading.innerHTML = "<span class='none'>&nbsp;</span>";
      return;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [sortKey(row.cells[column].textContent), row]);
      rows.sort(([a], [b]) => compareKeys(a, b, direction));
      body.append(...rows.map(([, row]) => row));
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    });
  });
}

// The losses, as in kdjax/losses.py, in float64: z student's logits, v teacher's, -Infinity a class that is left out.

function logSoftmax(logits, T) {
  const top = Math.max(...logits);
  const logSum = Math.log(logits.reduce((sum, x) => sum + Math.exp((x - top) / T), 0));
  return logits.map((x) => (x - top) / T - logSum);
}

function softTargets(z, v, T) {
  const live = z.map((x, i) => Math.max(x, v[i]) > -Infinity);
  const N = live.filter(Boolean).length;
  const difference = z.map((x, i) => (live[i] ? x - v[i] : 0));
  const mean = difference.reduce((sum, x) => sum + x, 0) / N;
  const centred = difference.map((x, i) => (live[i] ? x - mean : 0));
  const formula = centred.map((x) => x / N);
  if (T === Infinity) {
    const even = live.map((is) => (is ? 1 / N : 0));
    const loss = centred.reduce((sum, x) => sum + x * x, 0) / (2 * N);
    return { p: even, q: even, entropies: [Math.log(N), Math.log(N)], loss, gradient: formula, formula };
  }
  const [logQ, logP] = [logSoftmax(z, T), logSoftmax(v, T)];
  const [q, p] = [logQ.map(Math.exp), logP.map(Math.exp)];
  const sum = (term) => p.reduce((total, _, i) => total + (live[i] ? term(i) : 0), 0);
  const entropy = (s, logS) => -sum((i) => (s[i] > 0 ? s[i] * logS[i] : 0));
  const loss = T * T * sum((i) => (p[i] > 0 ? p[i] * (logP[i] - logQ[i]) : 0));
  const gradient = q.map((x, i) => T * (x - p[i]));
  return { p, q, entropies: [entropy(p, logP), entropy(q, logQ)], loss, gradient, formula };
}

// The explorer.

const MOST_CLASSES = 10;
const parse = (value) => (value === "inf" ? Infinity : value);
const nameOf = (T) => (T === Infinity ? "∞" : String(T));
const size = (values) => Math.hypot(...values);

function short(value) {
  if (!Number.isFinite(value)) return "–";
  const text = value === 0 || Math.abs(value) >= 1e-3 ? value.toFixed(4) : value.toExponential(1);
  return text.replaceAll("-", "−");
}

function element(tag, text, value) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (value !== undefined) made.dataset.value = value;
  return made;
}

function explore(data) {
  const byId = (id) => document.getElementById(id);
  const slider = byId("temperature");
  const temperatures = data.temperatures.map(parse);
  const logits = (row) => row.map((x) => (x === null ? -Infinity : Math.fround(x)));
  const pictures = [...document.querySelectorAll("input[name=image]")]; // of features there are none, but a list
  const list = byId("image");
  const picture = () => pictures.find((input) => input.checked);

  function state() {
    const image = Number((picture() ?? list).value);
    const student = data.students[byId("student").value];
    const T = temperatures[slider.value];
    const [z, v] = [logits(student.logits[image]), logits(data.images[image].teacher)];
    return { image: data.images[image], student, T, z, v, curve: data.curves[student.curve] };
  }

  function shownClasses({ z, v }) {
    const { p, q } = softTargets(z, v, 1);
    const order = p.map((_, i) => i).sort((a, b) => Math.max(p[b], q[b]) - Math.max(p[a], q[a]));
    return order.slice(0, MOST_CLASSES).sort((a, b) => a - b);
  }

  function chart(id, label, options) {
    const place = byId(id);
    const svg = Plot.plot({
      width: Math.max(place.clientWidth, 240),
      height: 255,
      marginTop: 28,
      style: { background: "none", color: "inherit", fontSize: "12px", overflow: "visible" },
      ariaLabel: label,
      ...options,
    });
    svg.setAttribute("role", "img"); // as a whole: Plot's names of its parts are no words to be read
    svg.querySelectorAll("[aria-label], [aria-description]").forEach((part) => {
      part.removeAttribute("aria-label");
      part.removeAttribute("aria-description");
    });
    place.replaceChildren(svg);
  }

  function classAxis(names) {
    const long = Math.max(...names.map((name) => name.length)) > 2;
    const turned = long ? { tickRotate: -40 } : {};
    return [{ domain: names, label: null, padding: 0.15, ...turned }, { marginBottom: long ? 70 : 30 }];
  }

  function drawTargets(found, shown, T) {
    const rows = shown.flatMap((i) => [
      { class: data.classes[i], who: "teacher", share: found.p[i] },
      { class: data.classes[i], who: "student", share: found.q[i] },
    ]);
    const [fx, margins] = classAxis(shown.map((i) => data.classes[i]));
    const said = rows.map((row) => `${row.who} ${row.class} ${short(row.share)}`).join(", ");
    chart("targets", `Soft targets at T = ${nameOf(T)}: ${said}`, {
      ...margins,
      fx,
      x: { domain: ["teacher", "student"], axis: null },
      y: { domain: [0, 1], grid: true, label: "probability" },
      marks: [
        Plot.barY(rows, { fx: "class", x: "who", y: "share", fill: (row) => `var(--${row.who})`, inset: 0.5 }),
        Plot.ruleY([0]),
      ],
    });
  }

  function drawGradients({ z, v }, found, shown, T) {
    const most = Math.max(...temperatures.flatMap((t) => softTargets(z, v, t).gradient.map(Math.abs)), 1e-12);
    const rows = shown.map((i) => ({ class: data.classes[i], own: found.gradient[i], limit: found.formula[i] }));
    const [fx, margins] = classAxis(rows.map((row) => row.class));
    const said = rows.map((row) => `${row.class} ${short(row.own)} beside ${short(row.limit)}`).join(", ");
    chart("gradients", `Gradient at T = ${nameOf(T)} beside that of logit matching: ${said}`, {
      ...margins,
      fx,
      x: { axis: null },
      y: { domain: [-most, most], grid: true, label: "gradient", nice: true },
      marks: [
        Plot.barY(rows, { fx: "class", y: "own", fill: "var(--student)", inset: 2 }),
        Plot.barY(rows, { fx: "class", y: "limit", fill: "none", stroke: "var(--formula)", strokeWidth: 2 }),
        Plot.ruleY([0]),
      ],
    });
  }

  function drawCurve(curve, T) {
    const points = curve.points.map((point) => ({ ...point, T: parse(point.T) }));
    const finite = points.map((point) => point.T).filter(Number.isFinite);
    const infinity = Math.log2(Math.max(100, ...finite)) + 1.2;
    const place = (t) => (t === Infinity ? infinity : Math.log2(t));
    const first = Math.log2(Math.min(0.25, ...finite));
    const across = { x: (point) => place(point.T) };
    const ticks = [0.25, 1, 4, 16, 64, Infinity];
    const said = points.map((point) => `T = ${nameOf(point.T)} ${point.mean.toFixed(1)}`).join(", ");
    chart("curve", `Test errors of students of ${curve.name}: ${said}; the slider is at T = ${nameOf(T)}`, {
      x: {
        domain: [first, infinity + 0.3],
        label: "temperature T (log scale)",
        labelAnchor: "center",
        labelArrow: "none",
        labelOffset: 38,
        ticks: ticks.map(place),
        tickFormat: (x) => (x === infinity ? "∞" : String(2 ** x)),
      },
      y: { label: "test errors", grid: true, nice: true, inset: 4 },
      marginBottom: 45,
      marks: [
        ...(curve.hard === null ? [] : [Plot.ruleY([curve.hard], { strokeDasharray: "6 4", stroke: "var(--soft)" })]),
        Plot.ruleX([place(T)], { stroke: "var(--student)", strokeWidth: 3 }),
        Plot.ruleX(points.filter((point) => point.low !== null), { ...across, y1: "low", y2: "high" }),
        Plot.line(points.filter((point) => point.T < Infinity), { ...across, y: "mean", stroke: "var(--teacher)" }),
        Plot.line(points.slice(-2), { ...across, y: "mean", stroke: "var(--teacher)", strokeDasharray: "2 4" }),
        Plot.dot(points, { ...across, y: "mean", fill: "var(--teacher)", r: 4 }),
      ],
    });
  }

  function standing(curve, T) {
    const points = curve.points.map((point) => ({ ...point, T: parse(point.T) }));
    const words = ({ T: t, mean, low, high }) =>
      `T = ${nameOf(t)}: ${mean.toFixed(1)} test errors` +
      (low === null ? "" : ` [${low.toFixed(1)}, ${high.toFixed(1)}]`);
    const own = points.find((point) => point.T === T);
    const hard = curve.hard === null ? "" : `; of hard labels: ${curve.hard.toFixed(1)}`;
    if (!points.length) return `No such student finished${hard}.`;
    if (own) return `Students trained at ${words(own)}${hard}.`;
    const near = [points.findLast((point) => point.T < T), points.find((point) => point.T > T)];
    return `None was trained at T = ${nameOf(T)}; nearest: ${near.filter(Boolean).map(words).join("; ")}${hard}.`;
  }

  function say({ image, student, T, curve }, found) {
    const off = size(found.gradient.map((x, i) => x - found.formula[i])) / size(found.formula);
    const number = (name, value, text) => {
      const made = element("data", text ?? short(value));
      made.id = name;
      made.value = value;
      return made;
    };
    const shown = picture()?.nextElementSibling.src;
    byId("chosen").hidden = !shown;
    if (shown) byId("chosen").src = shown;
    byId("said").replaceChildren(
      `${image.name}, labelled ${image.label}; student trained ${student.name}. At T = ${nameOf(T)} the entropy of `,
      "the teacher's soft target is ",
      number("teacher-entropy", found.entropies[0]),
      ", of the student's ",
      number("student-entropy", found.entropies[1]),
      ` (equal shares: ${short(Math.log(found.p.length))}). T²·KL, the loss of soft targets, ${student.minimised}, is `,
      number("loss", found.loss),
      ". Its gradient is ",
      number("off", off, `${Number((100 * off).toPrecision(2))} %`),
      ` off logit matching's. ${standing(curve, T)}`,
    );
  }

  function tabulate(found, shown) {
    const columns = [found.p, found.q, found.gradient, found.formula];
    const rows = shown.map((i) => {
      const row = document.createElement("tr");
      const heading = element("th", data.classes[i]);
      heading.scope = "row";
      row.append(heading, ...columns.map((values) => element("td", short(values[i]), values[i])));
      return row;
    });
    document.querySelector("#classes tbody").replaceChildren(...rows);
    const left = data.classes.length - shown.length;
    byId("others").textContent = left ? `; ${left} classes of less weight are left out` : "";
  }

  function show() {
    const now = state();
    const name = nameOf(now.T);
    slider.setAttribute("aria-valuetext", `T = ${name}`);
    byId("shown").textContent = `T = ${name}`;
    const found = softTargets(now.z, now.v, now.T);
    const shown = shownClasses(now);
    say(now, found);
    tabulate(found, shown);
    drawTargets(found, shown, now.T);
    drawGradients(now, found, shown, now.T);
    drawCurve(now.curve, now.T);
  }

  slider.max = temperatures.length - 1;
  slider.value = temperatures.indexOf(temperatures.includes(4) ? 4 : 1);
  const soft = data.students.findIndex((student) => student.trained === temperatures[slider.value]);
  byId("student").value = Math.max(soft, 0);
  const mistakes = data.images.findIndex((image) => image.mistake);
  const first = Math.max(mistakes, 0);
  pictures.forEach((input) => { input.checked = Number(input.value) === first; });
  if (list) list.value = first;
  document.querySelector("#explorer .live").hidden = false;
  [slider, byId("student"), list, ...pictures].filter(Boolean).forEach((input) => input.addEventListener("input", show));
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 1) return;
    width = entry.contentRect.width;
    show();
  }).observe(document.querySelector("#explorer .charts"));
  show();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll(".needs-script").forEach((note) => { note.hidden = false; });
const data = document.getElementById("data");
if (data) explore(JSON.parse(data.textContent));
document.documentElement.dataset.ready = performance.now();
