// A table is sent, comes back scored, and is shown by threshold.

import { budget, offer, withdraw } from "./campaign.js";
import { ADDED, numberOf, readRows, spelt } from "./scored.js";
import { post } from "./service.js";
import { FirstRows, counted, percent, whole } from "./words.js";

const EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const BINS = 20;

const byId = (id) => document.getElementById(id);
const file = byId("file");
const drop = byId("drop");
const threshold = byId("threshold");
const { record, records, positives } = document.body.dataset;
const idColumn = spelt(document.body.dataset.id);
const precise = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

let running = new AbortController(); // the table that is under way
let probabilities = new Float64Array(); // of the last table's scored rows, ascending

file.addEventListener("change", () => file.files.length && score(file.files[0]));
byId("cancel").addEventListener("click", () => running.abort());
threshold.addEventListener("input", () => {
  byId("budget").value = ""; // what was moved last decides
  showCut();
});
byId("budget").addEventListener("input", showCut);

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
  withdraw();
  const mine = (running = new AbortController());
  byId("scored").hidden = true;
  byId("table-problem").hidden = true;
  showProgress(`Sending ${table.name} …`, 0);
  const type = /\.xlsx$/i.test(table.name) ? EXCEL : "text/csv";
  try {
    const answer = await post("predict", type, table, {
      signal: mine.signal,
      onSent: (share) => (share < 1 ? showProgress(`Sending ${table.name} …`, share) : showProgress("Scoring …")),
    });
    showProgress("Reading the scores …");
    const found = await read(answer, mine.signal);
    showScored(found, table, answer);
    offer({ file: table, type, answer, columns: found.columns });
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

/** The columns that the table came with, the probabilities and the bad rows of a scored table. */
async function read(answer, signal) {
  const found = [];
  const bad = new FirstRows();
  let columns;
  let id; // the place of the id's column

  function onRow(cells, number) {
    if (number === 1) {
      columns = cells.slice(0, -ADDED);
      id = idColumn ? columns.map(spelt).indexOf(idColumn) : -1;
      return;
    }
    const [probability, , , error] = cells.slice(-ADDED);
    if (probability !== "") found.push(numberOf(probability));
    else bad.add(number, cells[id] ?? "", error);
  }

  await readRows(answer, onRow, signal);
  return { columns, probabilities: Float64Array.from(found).sort(), bad };
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
  showCut();
  byId("scored-title").focus();
}

function showBadRows(bad) {
  byId("bad").hidden = bad.count === 0;
  byId("bad-title").textContent = `${counted(bad.count, "row", "rows")} could not be scored`;
  bad.show(byId("bad-rows"), byId("bad-more"), ", in the table");
}

/** Show which rows are chosen: the most probable ones of a budget, or else those from the threshold on. */
function showCut() {
  const isBudget = budget() > 0 && probabilities.length > 0;
  const rows = isBudget
    ? Math.min(budget(), probabilities.length)
    : probabilities.length - firstFrom(threshold.value / 100);
  const from = isBudget ? probabilities.at(-rows) : threshold.value / 100;
  byId("threshold-shown").textContent = (isBudget ? precise : percent).format(from);
  threshold.setAttribute("aria-valuetext", percent.format(threshold.value / 100));
  byId("chosen").textContent = whole.format(rows);
  for (const bar of byId("histogram").querySelectorAll(".bar")) bar.classList.toggle("chosen", bar.dataset.middle >= from);
  byId("histogram").querySelector(".cut").setAttribute("transform", `translate(${100 * from})`);
  const lower = [...document.querySelectorAll("#thresholds [data-threshold]")].filter(
    ({ dataset }) => dataset.threshold / 100 <= from,
  );
  showEstimate(rows, from, lower.at(-1)?.dataset);
}

/** What the chosen are if they are like those of the test part: `tested` is its row of the nearest lower threshold. */
function showEstimate(rows, from, tested) {
  const note = byId("estimate-note");
  for (const estimate of document.querySelectorAll(".estimate")) estimate.hidden = !tested || tested.chosen === "0";
  if (!tested) {
    const reason = byId("thresholds") ? "of so low a probability" : "at all";
    note.textContent = `How many ${positives} are among them is not known: the model file has no training figures ${reason}.`;
    return;
  }
  if (tested.chosen === "0") {
    note.textContent = "Nothing in the test part has this probability, so there is no estimate.";
    return;
  }
  const hit = tested.positives / tested.chosen;
  const all = byId("thresholds").dataset.positives;
  const which = tested.threshold / 100 === from ? "this threshold" : `the threshold of ${tested.threshold}%, the nearest below,`;
  byId("positives").textContent = `≈ ${whole.format(Math.round(rows * hit))}`;
  byId("negatives").textContent = `≈ ${whole.format(rows - Math.round(rows * hit))}`;
  note.textContent =
    `These are estimates from the test part: ${which} chose ${counted(tested.chosen, record, records)} there, ` +
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
    bar.dataset.middle = (bin + 0.5) / BINS; // from a budget's cut on, most of a bar
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
