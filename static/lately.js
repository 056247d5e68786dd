// Lately: how what the service was asked since its start differs from training.

import { get, show } from "./service.js";
import { counted, whole } from "./words.js";

const byId = (id) => document.getElementById(id);
const shares = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const { record, records } = document.body.dataset;

byId("lately-refresh").addEventListener("click", () => update(true));
update(false);

async function update(asksForKey) {
  try {
    showDrift(JSON.parse(await (await get("drift", asksForKey)).text()));
    show(byId("lately-problem"), "");
  } catch (error) {
    show(byId("lately-problem"), error.message);
  }
}

function showDrift({ scored, invalid, probability, fields }) {
  const changed = fields.filter(({ verdict }) => verdict.startsWith("changed")).sort((one, other) => other.index - one.index);
  const others = fields.filter((field) => !changed.includes(field));
  const rows = [...(probability ? [probability] : []), ...changed, ...others];
  byId("lately-records").textContent =
    `${counted(scored, record, records)} scored since the start` +
    (invalid ? `, and ${whole.format(invalid)} refused as invalid.` : ".");
  byId("lately-summary").textContent = summary(rows);
  byId("lately-rows").replaceChildren(...rows.map(row));
  byId("lately-table").hidden = false;
  byId("lately-note").hidden = false;
}

function summary(rows) {
  const all = (said) => rows.every(({ verdict }) => verdict === said);
  const changed = rows.filter(({ verdict }) => verdict.startsWith("changed"));
  if (all("not known")) return "The model file does not tell what its training was like; train.py stores it.";
  if (all("too few to tell")) return "They are too few, or those of the training were, to tell whether anything has changed.";
  if (changed.length) return `Not as in training: ${changed.map(({ label }) => label).join(", ")}.`;
  return "Nothing that can be told has changed.";
}

function row({ label, verdict, index, said, unusual, blank, invalid }) {
  const isTold = index !== null && verdict !== "too few to tell";
  const line = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = label;
  line.append(name);
  const cells = [verdict, isTold ? hundredths.format(index) : "–", isTold && verdict !== "alike" ? said : "–"];
  for (const cell of [...cells, ...[unusual, blank, invalid].map((share) => (share ? shares.format(share) : "–"))]) {
    line.insertCell().textContent = cell;
  }
  line.classList.toggle("differs", verdict.startsWith("changed"));
  return line;
}
