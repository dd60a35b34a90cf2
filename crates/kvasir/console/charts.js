// Small line charts, drawn as SVG.
// @ts-check
import { html } from "./vendor/htm-preact.js";
import { clock, short } from "./format.js";

const WIDTH = 300;
const HEIGHT = 72;

/** Stretches without a gap, as points of the picture. @param {(number | null)[]} values @param {number} most @returns {[number, number][][]} */
function stretches(values, most) {
  const step = WIDTH / Math.max(1, values.length - 1);
  /** @type {[number, number][][]} */
  const found = [[]];
  values.forEach((value, at) => {
    if (value === null) found.push([]);
    else found[found.length - 1].push([at * step, HEIGHT - 2 - (value / most) * (HEIGHT - 6)]);
  });
  return found.filter((points) => points.length > 0);
}

/** @param {[number, number][]} points */
const joined = (points) => points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

/** A single point is drawn as a dot, by a line of no length. @param {[number, number][][]} all */
const line = (all) => all.map((points) => `M${joined(points.length > 1 ? points : [points[0], points[0]])}`).join("");

/** @param {[number, number][][]} all */
const area = (all) => all.filter((points) => points.length > 1).map((points) => `M${points[0][0].toFixed(1)} ${HEIGHT}L${joined(points)}L${points[points.length - 1][0].toFixed(1)} ${HEIGHT}Z`).join("");

/**
 * One measure over time: its last value large, its course below.
 *
 * @param {{ title: string, at: number[], values: (number | null)[], second?: (number | null)[], secondName?: string, firstName?: string, show?: (value: number) => string, unit?: string, note?: string }} props
 */
export function Chart({ title, at, values, second, firstName, secondName, show = short, unit = "", note }) {
  const all = [...values, ...(second ?? [])].filter((value) => value !== null);
  const most = Math.max(0, ...all);
  const last = [...values].reverse().find((value) => value !== null && value !== undefined) ?? null;
  const lastSecond = second && [...second].reverse().find((value) => value !== null && value !== undefined);
  const drawn = stretches(values, most || 1);
  const label = `${title}: now ${last === null ? "unknown" : show(last)} ${unit}, at most ${all.length ? show(most) : "unknown"} ${unit}`;
  return html`<figure class="card chart" role="group" aria-label=${label}>
    <figcaption><h3>${title}</h3>${note && html`<span class="hint">${note}</span>`}</figcaption>
    <div class="value">${last === null ? "–" : show(last)} <small>${unit}${firstName && ` ${firstName}`}${secondName && lastSecond !== undefined && lastSecond !== null && ` · ${show(lastSecond)} ${unit} ${secondName}`}</small></div>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <line class="base" x1="0" y1=${HEIGHT - 1} x2=${WIDTH} y2=${HEIGHT - 1} />
      ${all.length > 1 && html`<path class="area" d=${area(drawn)} /><path class="line" d=${line(drawn)} />${second && html`<path class="line second" d=${line(stretches(second, most || 1))} />`}`}
    </svg>
    <div class="axis"><span>${at.length ? clock(at[0]) : ""}</span><span>${all.length ? `at most ${show(most)}${unit && ` ${unit}`}` : "no samples yet"}</span><span>${at.length ? clock(at[at.length - 1]) : ""}</span></div>
  </figure>`;
}
