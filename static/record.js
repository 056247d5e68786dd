// One record: the probability, the decision and the reasons follow the form.

import { Problem, post, show } from "./service.js";

const PAUSE = 150; // milliseconds without a change, before the service is asked

const form = document.getElementById("record-form");
const answer = document.getElementById("answer");
const reasons = document.getElementById("reasons");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const points = new Intl.NumberFormat("en", { signDisplay: "exceptZero", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat("en", { signDisplay: "exceptZero", minimumFractionDigits: 2, maximumFractionDigits: 2 });

const { target, act, refrain } = document.body.dataset;
const fields = [...form.querySelectorAll("input, select")]; // form.elements could be a field of that name
const byName = new Map(fields.map((field) => [field.name, field])); // names such as "length" are none of a form's own
const threshold = Number(document.querySelector(".gauge").dataset.threshold);
document.getElementById("gauge-tick").style.insetInlineStart = `${100 * threshold}%`;

let waiting; // the timer of the pause
let asked = new AbortController(); // the request that is under way
let explains = true; // until the service says that this model has no reasons
let before = null; // the probability that was shown last

form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(update, PAUSE);
});
form.addEventListener("reset", () => setTimeout(update)); // when the fields have their first values again
form.addEventListener("submit", (event) => event.preventDefault());
for (const button of form.querySelectorAll("[data-field]")) {
  button.addEventListener("click", () => {
    byName.get(button.dataset.field).value = button.dataset.value;
    update();
  });
}
update();

async function update() {
  clearTimeout(waiting);
  asked.abort();
  asked = new AbortController();
  pressButtons();
  try {
    const found = await predict(JSON.stringify(record()), asked.signal);
    showErrors([]);
    showAnswer(found);
  } catch (error) {
    if (error.name === "AbortError") return; // a later change has its own request
    if (!(error instanceof Problem)) throw error;
    answer.classList.add("outdated");
    showErrors(error.errors, error.message);
  }
}

/** The form's record, as the service wants it; an empty field is left out, or null where it may be blank. */
function record() {
  const given = fields.filter((field) => field.value !== "" || field.options || "blank" in field.dataset);
  return Object.fromEntries(given.map((field) => [field.name, valueOf(field)]));
}

function valueOf(field) {
  const { value, dataset } = field;
  if ("blank" in dataset && value === "") return null;
  if ("number" in dataset) return Number(value);
  const isText = field.list && [...field.list.options].some((option) => option.value === value);
  return "either" in dataset && !isText && !Number.isNaN(Number(value)) ? Number(value) : value;
}

async function predict(body, signal) {
  try {
    return await ask(`predict${explains ? "?explain=true" : ""}`, body, signal);
  } catch (error) {
    // A refusal that names no field is about the reasons.
    if (!explains || error.status !== 422 || error.errors.length) throw error;
    explains = false;
    show(document.getElementById("reasons-note"), error.message);
    return ask("predict", body, signal);
  }
}

async function ask(address, body, signal) {
  return JSON.parse(await (await post(address, "application/json", body, { signal })).text());
}

function pressButtons() {
  for (const button of form.querySelectorAll("[data-field]")) {
    button.setAttribute("aria-pressed", byName.get(button.dataset.field).value === button.dataset.value);
  }
}

function showAnswer(said) {
  const { reasons: found = [], [`${target}_probability`]: probability, [target]: yes } = said;
  answer.classList.remove("outdated");
  answer.classList.toggle("yes", yes);
  document.getElementById("probability").textContent = percent.format(probability);
  document.getElementById("decision").textContent = yes ? act : refrain;
  document.getElementById("gauge-fill").style.inlineSize = `${100 * probability}%`;
  if (before !== null && before !== probability) {
    document.getElementById("before").textContent = `It was ${percent.format(before)} before the last change.`;
  }
  before = probability;
  const largest = Math.max(...found.map(({ share }) => Math.abs(share)), Number.MIN_VALUE);
  showUnusual(said.unusual ?? []);
  const inWords = said.reasons_unit === "probability" ? (share) => points.format(100 * share) : signed.format;
  reasons.replaceChildren(...found.map((reason) => bar(reason, largest, inWords)));
}

/** Say which values no record of the training table had; that is how cents for euros are found out. */
function showUnusual(names) {
  const labels = names.map((name) => byName.get(name).labels[0].textContent).join(", ");
  show(document.getElementById("unusual"), labels && `Beyond what training saw: ${labels}.`);
}

function bar({ field, value, share }, largest, inWords) {
  const row = document.createElement("li");
  row.dataset.field = field;
  const width = document.createElement("span");
  width.className = share > 0 ? "towards yes" : "towards no";
  width.style.inlineSize = `${(50 * Math.abs(share)) / largest}%`;
  const track = part("track", "");
  track.append(width);
  row.append(part("name", words(field, value)), track, part("share", inWords(share).replace("-", "−")));
  return row;
}

function part(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

/** A field and its value in the words of the form. */
function words(field, value) {
  const input = byName.get(field);
  const chosen = input.options ? [...input.options].find((option) => option.value === String(value))?.text : null;
  return `${input.labels[0].textContent}: ${chosen ?? value}`;
}

/** Say what is wrong beside the fields concerned; what concerns none of them is said beside the answer. */
function showErrors(errors, detail = "") {
  const said = new Map(errors.map(({ field, message }) => [field, message]));
  for (const field of fields) {
    const message = (field.validity.badInput ? "this is not a number" : said.get(field.name)) ?? "";
    field.ariaInvalid = Boolean(message);
    show(document.getElementById(`${field.id}-problem`), message);
  }
  show(document.getElementById("record-problem"), detail);
}
