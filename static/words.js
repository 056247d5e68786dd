// Numbers and rows, as the page shows them.

import { show } from "./service.js";

const MOST_ROWS = 50;

export const whole = new Intl.NumberFormat("en");
export const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

export function counted(number, one, many) {
  return `${whole.format(number)} ${Number(number) === 1 ? one : many}`;
}

/** A list of rows of which the first are kept to be shown. */
export class FirstRows {
  count = 0;
  rows = [];

  add(...cells) {
    this.count += 1;
    if (this.rows.length < MOST_ROWS) this.rows.push(cells);
  }

  /** Show them in a table's body, and in `rest` how many more there are. */
  show(body, rest, where = "") {
    body.replaceChildren(...this.rows.map(tableRow));
    const more = this.count - this.rows.length;
    show(rest, more ? `And ${whole.format(more)} more${where}.` : "");
  }
}

function tableRow(cells) {
  const row = document.createElement("tr");
  for (const cell of cells) row.insertCell().textContent = cell;
  return row;
}
