// Small line charts, drawn as SVG.
// @ts-check
import { html } from "./vendor/htm-preact.js";
import { clock, short } from "./format.js";

const WIDTH = 300;
const HEIGHT = 72;

/** @param {(number | null)[]} values @param {number} most */
function path(values, most) {
  const step = WIDTH / Math.max(1, values.length - 1);
  let isDown = false;
  return values
    .map((value, at) => {
      if (value === null) {
        isDown = false;
        return "";
      }
      const point = `${isDown ? "L" : "M"}${(at * step).toFixed(1)} ${(HEIGHT - 2 - (value / most) * (HEIGHT - 6)).toFixed(1)}`;
      isDown = true;
      return point;
    })
    .join("");
}

/**
 * One measure over time: its last value large, its course below.
 *
 * @param {{ title: string, at: number[], values: (number | null)[], second?: (number | null)[], secondName?: string, firstName?: string, show?: (value: number) => string, unit?: string, note?: string }} props
 */
export function Chart({ title, at, values, second, firstName, secondName, show = short, unit = "", note }) {
  const all = [...values, ...(second ?? [])].filter((value) => value !== null);
  const most = Math.max(1e-9, ...all);
  const last = [...values].reverse().find((value) => value !== null && value !== undefined) ?? null;
  const lastSecond = second && [...second].reverse().find((value) => value !== null && value !== undefined);
  const line = path(values, most);
  const label = `${title}: now ${last === null ? "unknown" : show(last)} ${unit}, at most ${all.length ? show(most) : "unknown"} ${unit}`;
  return html`<figure class="card chart" role="group" aria-label=${label}>
    <figcaption><h3>${title}</h3>${note && html`<span class="hint">${note}</span>`}</figcaption>
    <div class="value">${last === null ? "–" : show(last)} <small>${unit}${firstName && ` ${firstName}`}${secondName && lastSecond !== undefined && lastSecond !== null && ` · ${show(lastSecond)} ${unit} ${secondName}`}</small></div>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <line class="base" x1="0" y1=${HEIGHT - 1} x2=${WIDTH} y2=${HEIGHT - 1} />
      ${all.length > 1 && html`<path class="area" d=${`${line}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`} /><path class="line" d=${line} />${second && html`<path class="line second" d=${path(second, most)} />`}`}
    </svg>
    <div class="axis"><span>${at.length ? clock(at[0]) : ""}</span><span>${all.length ? `at most ${show(most)}${unit && ` ${unit}`}` : "no samples yet"}</span><span>${at.length ? clock(at[at.length - 1]) : ""}</span></div>
  </figure>`;
}
