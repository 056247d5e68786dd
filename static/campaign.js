// A campaign is planned: who of a scored table is written to, and who is left alone for comparison.
// `campaign.py plan` makes the same plan (serving/campaign/plan.py): the two change together.

import { line } from "./csv.js";
import { ADDED, charsetOf, numberOf, readRows, spelt } from "./scored.js";
import { Problem, post, show } from "./service.js";
import { sha256 } from "./sha256.js";
import { FirstRows, counted, whole } from "./words.js";

// The plan's columns; the table's others that are no fields of the model follow them.
const COLUMNS = ["id", "email", "probability", "reasons", "group"];
const LETTER = "discount";
const CONTROL = "control";
const LINE_END = "\r\n";

// RFC 5321, sections 4.1.2 and 4.5.3.1: atoms, and a name with a dot, both of a bounded length. A bar may be in an
// atom too, but a spreadsheet may take what follows it for a cell.
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{}~-]+";
const LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const ADDRESS = new RegExp(`^(?=.{1,64}@)(?=.{1,254}$)${ATOM}(\\.${ATOM})*@(${LABEL}\\.)+${LABEL}$`);

const HASHES = 5000; // that are made at once, so that the page stays alive in between

const byId = (id) => document.getElementById(id);
const { record, target, id: idName } = document.body.dataset;
const inputs = { budget: byId("budget"), control: byId("control"), seed: byId("seed"), address: byId("address") };
const progress = byId("plan-progress");

let table = null; // the scored table: its file and type, as they were sent, the answer, and the columns it came with
let planning = new AbortController(); // the plan that is under way
let saved = ""; // the address of the last plan

byId("plan").addEventListener("submit", (event) => {
  event.preventDefault();
  plan();
});
inputs.address.addEventListener("change", showWhetherPossible);

/** Offer to plan with a table that was scored. */
export function offer(scored) {
  table = scored;
  const found = table.columns.findIndex((name) => name.toLowerCase().includes("mail"));
  const options = table.columns.map((name, at) => new Option(name.trim() || `column ${at + 1}`, at));
  inputs.address.replaceChildren(...(found < 0 ? [new Option("none", "")] : []), ...options);
  inputs.address.value = found < 0 ? "" : found;
  showWhetherPossible();
}

/** Take the offer back, and what was said of the last plan. */
export function withdraw() {
  planning.abort();
  table = null;
  clear();
}

/** How many to choose at most: undefined where the threshold decides, and NaN where it is no such number. */
export function budget() {
  const { value, valueAsNumber, validity } = inputs.budget;
  if (value === "" && !validity.badInput) return undefined;
  return Number.isInteger(valueAsNumber) && valueAsNumber >= 1 ? valueAsNumber : NaN;
}

function showWhetherPossible() {
  const isPossible = inputs.address.value !== "";
  byId("plan-button").disabled = !isPossible;
  byId("plan-lacks").hidden = isPossible;
}

function clear() {
  progress.textContent = "";
  show(byId("plan-problem"), "");
  byId("left-out").hidden = true;
}

async function plan() {
  planning.abort();
  clear();
  const mine = (planning = new AbortController());
  if (showMistakes() || !table || inputs.address.value === "") return;
  const asked = {
    most: budget(),
    least: byId("threshold").value / 100,
    share: inputs.control.valueAsNumber / 100,
    seed: inputs.seed.valueAsNumber,
    places: placesOf(table.columns, Number(inputs.address.value)),
  };
  const leftOut = new FirstRows();
  try {
    say("Reading the scores …");
    const { rows, delimiter } = await usable(table, asked, leftOut, mine.signal);
    const chosen = mostProbable(rows, asked);
    say("Choosing the control group …");
    const control = await controlGroup(chosen, asked, mine.signal);
    say("Asking for the reasons …");
    const reasons = await reasonsFor(chosen, table, mine.signal);
    say("Writing the plan …");
    const names = [...COLUMNS, ...asked.places.others.map((at) => table.columns[at])];
    const isAddress = asked.places.id === asked.places.email;
    const lines = chosen.map(({ number, id, email, probability, others }) =>
      [isAddress ? harmless(id) : id, harmless(email), probability, reasons.get(number) ?? "", control.has(number) ? CONTROL : LETTER, ...others]);
    const text = [names, ...lines].map((cells) => line(cells, delimiter) + LINE_END);
    const mark = (await hasMark(table.answer)) ? "\ufeff" : "";
    mine.signal.throwIfAborted();
    save(new Blob([mark, ...text], { type: "text/csv;charset=utf-8" }));
    say(
      `${whole.format(chosen.length)} chosen: ${whole.format(chosen.length - control.size)} to be written to, ` +
        `${whole.format(control.size)} in the control group; ${counted(leftOut.count, "row", "rows")} left out.`,
    );
  } catch (error) {
    if (error.name === "AbortError") return; // another plan or table has its own words
    say("");
    show(byId("plan-problem"), error.message);
  }
  showLeftOut(leftOut);
}

function say(text) {
  progress.textContent = text;
}

/** Say what is wrong with the inputs; gives whether something is. */
function showMistakes() {
  const { control, seed } = inputs;
  const mistakes = {
    budget: Number.isNaN(budget()) && "The budget is a whole number from 1 on, or empty.",
    control: !(control.valueAsNumber >= 0 && control.valueAsNumber <= 50) && "The control group is from 0 to 50 percent.",
    seed: !(Number.isSafeInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0) && "The seed is a whole number from 0 on.",
  };
  for (const [name, message] of Object.entries(mistakes)) inputs[name].ariaInvalid = Boolean(message);
  const said = Object.values(mistakes).filter(Boolean).join(" ");
  show(byId("plan-problem"), said);
  return said !== "";
}

/** The places of the id, of the address, and of what goes along: what is no field, nor what the model is about. */
function placesOf(columns, email) {
  const names = columns.map(spelt);
  const id = [idName && names.indexOf(spelt(idName)), names.indexOf("id"), email].find((at) => at !== "" && at >= 0);
  const known = new Set([...JSON.parse(byId("table").dataset.fields), target, ...COLUMNS].map(spelt));
  const others = [...names.keys()].filter((at) => at !== id && at !== email && !known.has(names[at]));
  return { id, email, others };
}

/**
 * The rows that can be written to, and the answer's delimiter; the others are put into `leftOut`, with the reason.
 * Rows below the threshold are not kept: there can be many.
 */
async function usable({ answer }, { most, least, places }, leftOut, signal) {
  const rows = [];
  const ids = new Map(); // the row of each that was met
  const addresses = new Map();

  function onRow(cells, number) {
    if (number === 1) return;
    const [probability, , , error] = cells.slice(-ADDED);
    const email = addressIn(cells[places.email]);
    const id = places.id === places.email ? email : stripped(cells[places.id]);
    const address = email.toLowerCase();
    const why = reasonToLeaveOut();
    if (why !== null) {
      leftOut.add(number, id, why);
      return;
    }
    if (places.id !== places.email) ids.set(id, number);
    addresses.set(address, number);
    const value = numberOf(probability);
    if (most || value >= least) {
      rows.push({ number, id, email, probability, value, others: places.others.map((at) => cells[at]) });
    }

    function reasonToLeaveOut() {
      if (probability === "") return error;
      if (email === "") return "no address";
      if (!ADDRESS.test(email)) return `not a usable address: ${email}`;
      if (id === "") return "no id";
      if (ids.has(id)) return `the same id as row ${ids.get(id)}`;
      return addresses.has(address) ? `the same address as row ${addresses.get(address)}` : null;
    }
  }

  const delimiter = await readRows(answer, onRow, signal);
  if (addresses.size === 0) {
    throw new Problem(0, "Nobody in the table can be written to: no row has a score and a usable address.");
  }
  return { rows, delimiter };
}

/** Those that are chosen, the most probable first; equal ones stay in the table's order. */
function mostProbable(rows, { most }) {
  if (rows.length === 0) {
    throw new Problem(0, `No ${record} who can be written to has a probability from the threshold on: nobody is chosen.`);
  }
  return rows.sort((one, other) => other.value - one.value).slice(0, most);
}

/** The numbers of the rows in the control group: by chance, and the same with the same seed. */
async function controlGroup(chosen, { share, seed }, signal) {
  const size = Math.floor(share * chosen.length + 0.5);
  const drawn = [];
  for (const { id, number } of size ? chosen : []) {
    drawn.push([sha256(`${seed}:${id}`), number]);
    if (drawn.length % HASHES === 0) {
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
    }
  }
  drawn.sort(([one], [other]) => (one < other ? -1 : 1));
  return new Set(drawn.slice(0, size).map(([, number]) => number));
}

/** Why each of the chosen is probable, in words, by the row's number; nothing where the model cannot say it. */
async function reasonsFor(chosen, { file, type }, signal) {
  const reasons = new Map(chosen.map(({ number }) => [number, ""]));
  const least = chosen.at(-1).probability.replace(",", ".");
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Problem(0, "The table's file has changed or is gone; choose it again.");
  }
  try {
    const answer = await post(`predict?explain=words&from=${least}`, type, file, { signal });
    await readRows(answer, (cells, number) => reasons.has(number) && reasons.set(number, cells.at(-3)), signal);
  } catch (error) {
    // A refusal that names no field is about the reasons.
    if (error.status !== 422 || error.errors.length) throw error;
  }
  return reasons;
}

/** Whether a program that reads the plan needs a byte order mark, as the table had one or another encoding. */
async function hasMark(answer) {
  const [first, second, third] = new Uint8Array(await answer.slice(0, 3).arrayBuffer());
  return charsetOf(answer) !== "utf-8" || (first === 0xef && second === 0xbb && third === 0xbf);
}

function save(file) {
  URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(file);
  const link = document.createElement("a");
  link.href = saved;
  link.download = "campaign.csv";
  link.click();
}

function showLeftOut(leftOut) {
  byId("left-out").hidden = leftOut.count === 0;
  byId("left-out-title").textContent = `${counted(leftOut.count, "row", "rows")} left out`;
  leftOut.show(byId("left-out-rows"), byId("left-out-more"));
}

function stripped(cell) {
  return cell.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, "");
}

/** The address in a cell, without the apostrophe that keeps it from being a formula. */
function addressIn(cell) {
  return stripped(cell).replace(/^'(?=[=+@-])/, "");
}

/** An address that no spreadsheet takes for a formula. */
function harmless(address) {
  return address.replace(/^(?=[=+@-])/, "'");
}
