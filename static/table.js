// A table is sent, comes back scored, and is shown by threshold.

import { reader } from "./csv.js";
import { Problem, post, show } from "./service.js";

const EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const PIECE = 1 << 20; // bytes of the answer that are read at once, so that the page stays alive in between
const MOST_BAD_ROWS = 50;
const BINS = 20;

const byId = (id) => document.getElementById(id);
const file = byId("file");
const drop = byId("drop");
const threshold = byId("threshold");
const { record, records, positives } = document.body.dataset;
const spelt = (name) => name.trim().toLowerCase().replaceAll(" ", "_");
const idColumn = spelt(document.body.dataset.id);
const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

let running = new AbortController(); // the table that is under way
let probabilities = new Float64Array(); // of the last table's scored rows, ascending

file.addEventListener("change", () => file.files.length && score(file.files[0]));
byId("cancel").addEventListener("click", () => running.abort());
threshold.addEventListener("input", showThreshold);

// A file that misses the drop zone must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", ({ dataTransfer }) => {
  drop.classList.remove("over");
  if (dataTransfer.files.length) score(dataTransfer.files[0]);
});

async function score(table) {
  running.abort();
  const mine = (running = new AbortController());
  byId("scored").hidden = true;
  byId("table-problem").hidden = true;
  showProgress(`Sending ${table.name} …`, 0);
  try {
    const answer = await post("predict", /\.xlsx$/i.test(table.name) ? EXCEL : "text/csv", table, {
      signal: mine.signal,
      onSent: (share) => (share < 1 ? showProgress(`Sending ${table.name} …`, share) : showProgress("Scoring …")),
    });
    showProgress("Reading the scores …");
    const found = await read(answer, mine.signal);
    showScored(found, table, answer);
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error);
  } finally {
    file.value = ""; // so that the same file can be chosen again
    if (running === mine) byId("progress").hidden = true;
  }
}

function showProgress(text, share) {
  byId("progress").hidden = false;
  if (byId("progress-text").textContent !== text) byId("progress-text").textContent = text;
  if (share === undefined) byId("progress-bar").removeAttribute("value");
  else byId("progress-bar").value = share;
}

/** The probabilities and the bad rows of a scored table. */
async function read(answer, signal) {
  const decoder = new TextDecoder(answer.type.match(/charset=([\w-]+)/)[1]);
  const found = [];
  const bad = { count: 0, rows: [] };
  let rows; // the reader, once the header has shown the delimiter
  let names;
  let number = 0; // the row's, as a spreadsheet counts: the header is row 1

  function onRow(cells) {
    number += 1;
    if (number === 1) {
      names = cells.map(spelt);
      return;
    }
    const [probability, , , error] = cells.slice(-4);
    if (probability !== "") {
      found.push(Number(probability.replace(",", "."))); // as the table's own numbers are written
      return;
    }
    bad.count += 1;
    const id = (idColumn && cells[names.indexOf(idColumn)]) ?? "";
    if (bad.rows.length < MOST_BAD_ROWS) bad.rows.push([number, id, error]);
  }

  for (let at = 0; at < answer.size; at += PIECE) {
    const bytes = await answer.slice(at, at + PIECE).arrayBuffer();
    signal.throwIfAborted();
    const text = decoder.decode(bytes, { stream: true });
    rows ??= reader(delimiterOf(text), onRow);
    rows.push(text);
  }
  rows?.end();
  return { probabilities: Float64Array.from(found).sort(), bad };
}

/** The delimiter between the columns that the service added. */
function delimiterOf(text) {
  const header = text.match(/note([,;\t|])error\r?\n/);
  if (!header) throw new Problem(0, "The answer is not a scored table.");
  return header[1];
}

function showScored({ probabilities: found, bad }, table, answer) {
  probabilities = found;
  byId("scored-title").textContent = `${counted(found.length, record, records)} scored`;
  const download = byId("download");
  URL.revokeObjectURL(download.href);
  download.href = URL.createObjectURL(answer);
  download.download = `${table.name.replace(/\.[^.]*$/, "")}-scored.csv`;
  showBadRows(bad);
  drawHistogram();
  byId("scored").hidden = false;
  showThreshold();
  byId("scored-title").focus();
}

function showBadRows({ count, rows }) {
  byId("bad").hidden = count === 0;
  byId("bad-title").textContent = `${counted(count, "row", "rows")} could not be scored`;
  byId("bad-rows").replaceChildren(...rows.map(tableRow));
  const more = count - rows.length;
  show(byId("bad-more"), more ? `And ${whole.format(more)} more, in the table.` : "");
}

function tableRow(cells) {
  const row = document.createElement("tr");
  for (const cell of cells) row.insertCell().textContent = cell;
  return row;
}

function showThreshold() {
  const chosen = threshold.value;
  const from = chosen / 100;
  const chosenRows = probabilities.length - firstFrom(from);
  byId("threshold-shown").textContent = percent.format(from);
  threshold.setAttribute("aria-valuetext", percent.format(from));
  byId("chosen").textContent = whole.format(chosenRows);
  for (const bar of byId("histogram").querySelectorAll(".bar")) {
    bar.classList.toggle("chosen", bar.dataset.from >= from);
  }
  byId("histogram").querySelector(".cut").setAttribute("transform", `translate(${chosen})`);
  showEstimate(chosenRows, document.querySelector(`#thresholds [data-threshold="${chosen}"]`)?.dataset);
}

/** What the chosen are if they are like those of the test part: `tested` is its row of the threshold. */
function showEstimate(rows, tested) {
  const note = byId("estimate-note");
  for (const estimate of document.querySelectorAll(".estimate")) estimate.hidden = !tested || tested.chosen === "0";
  if (!tested) {
    note.textContent = `How many ${positives} are among them is not known: the model file has no training figures.`;
    return;
  }
  if (tested.chosen === "0") {
    note.textContent = "Nothing in the test part has this probability, so there is no estimate.";
    return;
  }
  const hit = tested.positives / tested.chosen;
  const all = byId("thresholds").dataset.positives;
  byId("positives").textContent = `≈ ${whole.format(Math.round(rows * hit))}`;
  byId("negatives").textContent = `≈ ${whole.format(rows - Math.round(rows * hit))}`;
  note.textContent =
    `These are estimates from the test part: this threshold chose ${counted(tested.chosen, record, records)} there, ` +
    `${percent.format(hit)} of them ${positives}, and ${percent.format(tested.positives / all)} of all ${positives}. ` +
    `They hold as far as your ${records} are like those.`;
}

/** The place of the first probability that is at least this large. */
function firstFrom(least) {
  let low = 0;
  let high = probabilities.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (probabilities[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

function drawHistogram() {
  const counts = new Array(BINS).fill(0);
  for (const probability of probabilities) counts[Math.min(BINS - 1, Math.floor(probability * BINS))] += 1;
  const highest = Math.max(...counts, 1);
  const width = 100 / BINS;
  const bars = counts.map((count, bin) => {
    const height = (97 * count) / highest;
    const bar = drawn("rect", { class: "bar", x: (bin + 0.04) * width, y: 100 - height, width: 0.92 * width, height });
    bar.dataset.from = bin / BINS;
    bar.append(drawn("title", {}, `${percent.format(bin / BINS)} to ${percent.format((bin + 1) / BINS)}: ${counted(count, record, records)}`));
    return bar;
  });
  byId("histogram").replaceChildren(...bars, drawn("line", { class: "cut", y2: 100 }));
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.textContent = text;
  return element;
}

function counted(number, one, many) {
  return `${whole.format(number)} ${Number(number) === 1 ? one : many}`;
}

function showProblem(error) {
  const box = byId("table-problem");
  const list = document.createElement("ul");
  for (const { field, message } of error.errors ?? []) {
    const item = document.createElement("li");
    item.textContent = field ? `${field}: ${message}` : message;
    list.append(item);
  }
  const said = document.createElement("p");
  said.textContent = error.message;
  box.replaceChildren(said, ...(list.children.length ? [list] : []));
  box.hidden = false;
}
