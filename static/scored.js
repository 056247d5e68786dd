// A scored table, as the service answers it.

import { reader } from "./csv.js";
import { Problem } from "./service.js";

const PIECE = 1 << 20; // bytes of the answer that are read at once, so that the page stays alive in between

export const ADDED = 4; // columns that the service puts at the end: probability, decision, note and error

/** How names are compared. */
export const spelt = (name) => name.trim().toLowerCase().replaceAll(" ", "_");

/** The number that a cell means: as the table's own numbers are written, perhaps with a decimal comma. */
export const numberOf = (cell) => Number(cell.replace(",", "."));

export const charsetOf = (answer) => answer.type.match(/charset=([\w-]+)/)[1];

/**
 * Calls `onRow` with each row's cells and its number, as a spreadsheet counts: the header is row 1.
 * Gives the delimiter of the columns. Throws a Problem, or an AbortError where `signal` stopped it.
 */
export async function readRows(answer, onRow, signal) {
  const decoder = new TextDecoder(charsetOf(answer));
  let delimiter; // once the header has shown it
  let rows;
  let number = 0;
  for (let at = 0; at < answer.size; at += PIECE) {
    const bytes = await answer.slice(at, at + PIECE).arrayBuffer();
    signal.throwIfAborted();
    const text = decoder.decode(bytes, { stream: true });
    delimiter ??= delimiterOf(text);
    rows ??= reader(delimiter, (cells) => onRow(cells, (number += 1)));
    rows.push(text);
  }
  rows?.end();
  return delimiter;
}

/** The delimiter between the columns that the service added. */
function delimiterOf(text) {
  const header = text.match(/note([,;\t|])error\r?\n/);
  if (!header) throw new Problem(0, "The answer is not a scored table.");
  return header[1];
}
