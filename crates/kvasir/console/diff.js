// Differences of two texts, line by line.
// @ts-check
import { html } from "./vendor/htm-preact.js";

/** Most lines that are compared one with another. Beyond it whole texts are shown. */
const LINES_MAX = 1500;

/** @param {string} before @param {string} after @returns {{ kind: "same" | "add" | "del", line: string }[]} */
export function lines(before, after) {
  const [a, b] = [before.split("\n"), after.split("\n")];
  if (a.length > LINES_MAX || b.length > LINES_MAX) {
    return [...a.map((line) => ({ kind: /** @type {const} */ ("del"), line })), ...b.map((line) => ({ kind: /** @type {const} */ ("add"), line }))];
  }
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1] + 1 : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  /** @type {{ kind: "same" | "add" | "del", line: string }[]} */
  const out = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ kind: "same", line: a[i] });
      i += 1;
      j += 1;
    } else if (i < a.length && (j >= b.length || longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      out.push({ kind: "del", line: a[i] });
      i += 1;
    } else {
      out.push({ kind: "add", line: b[j] });
      j += 1;
    }
  }
  return out;
}

/** @param {{ before: string, after: string, label?: string }} props */
export function Diff({ before, after, label = "Difference" }) {
  const marks = { same: "  ", add: "+ ", del: "− " };
  return html`<div class="diff" role="group" aria-label=${label} tabindex="0">
    ${lines(before, after).map(({ kind, line }) => html`<div class=${kind}>${kind !== "same" && html`<span class="sr">${kind === "add" ? "added" : "removed"}</span>`}${marks[kind]}${line}</div>`)}
  </div>`;
}
