// A CSV that comes in pieces, cut into rows; and a row as a line of one.

const QUOTE = 34;
const NEWLINE = 10;
const RETURN = 13;

/**
 * Calls `onRow` with the cells of each row of the pieces that are given to `push`; `end` follows the last piece.
 * A quoted cell may contain the delimiter, line ends, and doubled quotes.
 */
export function reader(delimiter, onRow) {
  const separator = delimiter.charCodeAt(0);
  let rest = ""; // the row that is not complete yet

  function push(piece) {
    const text = rest + piece;
    let cells = [];
    let row = 0; // where the row began
    let cell = 0; // where the cell began
    let quoted = false;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) {
        quoted = !quoted; // a doubled quote does so twice
      } else if (quoted) {
        continue;
      } else if (code === separator) {
        cells.push(plain(text.slice(cell, at)));
        cell = at + 1;
      } else if (code === NEWLINE) {
        cells.push(plain(text.slice(cell, text.charCodeAt(at - 1) === RETURN ? at - 1 : at)));
        if (cells.length > 1 || cells[0]) onRow(cells);
        cells = [];
        row = cell = at + 1;
      }
    }
    rest = text.slice(row);
  }

  return { push, end: () => rest && push("\n") };
}

function plain(cell) {
  return cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell;
}

/** A row as a line, without its end: cells are quoted where they must be. */
export function line(cells, delimiter) {
  return cells.map((cell) => (needsQuotes(cell, delimiter) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(delimiter);
}

function needsQuotes(cell, delimiter) {
  return cell.includes(delimiter) || /["\r\n]/.test(cell);
}
