// The service: asked for predictions, with a key where it wants one.

const STORED_KEY = "churn-serving-key"; // in this tab's session storage, never in an address
const CHANGED = "The service has another model than when this page was loaded; load it anew.";

/** An answer other than success, in the service's words; `errors` names the fields concerned. */
export class Problem extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/**
 * POST a body to an address of the service; gives the answer as a Blob, with its charset in its type.
 * `signal` stops it; `onSent` hears the share of the body that has gone out, from 0 to 1.
 * Throws a Problem, or an AbortError where it was stopped.
 */
export function post(address, type, body, { signal, onSent } = {}) {
  return ask("POST", address, { "Content-Type": type }, body, signal, onSent);
}

/** GET what is at an address of the service, as a Blob. Throws a Problem; asks for a key only if told so. */
export function get(address, asksForKey) {
  return ask("GET", address, {}, null, null, null, asksForKey);
}

async function ask(method, address, ownHeaders, body, signal, onSent, asksForKey = true) {
  for (;;) {
    const key = sessionStorage.getItem(STORED_KEY);
    const headers = { ...ownHeaders, ...(key && { "X-API-Key": inBytes(key) }) };
    const { status, answer, model } = await send(method, address, headers, body, signal, onSent);
    // What the page says of fields, thresholds and earlier scores is the old one's.
    if (model && model !== document.body.dataset.model) throw new Problem(0, CHANGED);
    if (status === 200) return answer;
    const problem = await asProblem(status, answer);
    if (status !== 401) throw problem;
    // While this request was under way, another may have learned the key.
    const learned =
      sessionStorage.getItem(STORED_KEY) !== key || (asksForKey && (await askForKey(key ? problem.message : "")));
    if (!learned) throw new Problem(status, "The service wants an API key.");
    signal?.throwIfAborted();
  }
}

/** A text's bytes in UTF-8, each as a character: browsers send no others in a header. */
function inBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

// XMLHttpRequest, since fetch does not tell how much of a body has been sent.
function send(method, address, headers, body, signal, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (onSent) {
      request.upload.onprogress = ({ loaded, total }) => onSent(loaded / total);
      request.upload.onload = () => onSent(1);
    }
    request.onload = () => {
      const { status, response } = request;
      const type = request.getResponseHeader("Content-Type") ?? ""; // of which browsers leave out the charset
      const model = request.getResponseHeader("X-Model");
      resolve({ status, answer: response.slice(0, response.size, type), model });
    };
    request.onerror = () => reject(new Problem(0, "The service cannot be reached, or the connection broke off."));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

async function asProblem(status, answer) {
  try {
    const { detail, errors } = JSON.parse(await answer.text());
    return new Problem(status, detail, errors);
  } catch {
    return new Problem(status, `The service answered ${status}, without saying why.`);
  }
}

let asking = null; // one question, however many requests wait for its answer

function askForKey(problem) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key");
    const input = document.getElementById("key-input");
    show(document.getElementById("key-problem"), problem);
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "use";
      if (given) sessionStorage.setItem(STORED_KEY, input.value);
      input.value = "";
      asking = null;
      resolve(given);
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** Show a message in an element; without a message hide the element. */
export function show(element, message) {
  element.textContent = message;
  element.hidden = !message;
}
