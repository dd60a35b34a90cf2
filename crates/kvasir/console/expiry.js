// How much falls due in each hour of the next week.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { count, short, size } from "./format.js";
import { go, href } from "./route.js";
import { Empty, Failed, Note, PageHead, Skeleton, useLoaded, valueOf } from "./ui.js";

const HOUR = 3600e3;

/** @param {any} props */
export function Expiry({ route }) {
  const spaces = useLoaded((signal) => get("/keyspaces", {}, { signal }), []);
  const names = spaces.value?.keyspaces.map((/** @type {any} */ one) => one.name) ?? [];
  const chosen = route.query.keyspace ?? "";
  return html`
    <${PageHead} title="Expiry" text="Keys and bytes falling due per hour of the next seven days, in your local time.">
      <select class="select" aria-label="Keyspace" value=${chosen} onChange=${(/** @type {any} */ event) => go(["expiry"], { keyspace: valueOf(event) })}>
        <option value="" selected=${chosen === ""}>All keyspaces</option>${names.map((/** @type {string} */ name) => html`<option value=${name} selected=${name === chosen}>${name}</option>`)}
      </select>
    <//>
    ${spaces.error ? html`<${Failed} error=${spaces.error} retry=${spaces.reload} />` : !spaces.value ? html`<div class="card"><${Skeleton} lines=${7} /></div>` : html`<${Calendar} key=${chosen + names.join()} names=${chosen ? [chosen] : names} chosen=${chosen} />`}`;
}

/** What falls due in an hour, and how many keys of which keyspace. @typedef {{ keys: number, bytes: number, spaces: Record<string, number> }} Due */

/** @type {Due} */
const NOTHING = { keys: 0, bytes: 0, spaces: {} };

/** @param {{ names: string[], chosen: string }} props */
function Calendar({ names, chosen }) {
  const [state, setState] = useState({ hours: /** @type {Record<number, Due>} */ ({}), later: 0, never: 0, examined: 0, done: false, error: /** @type {any} */ (null) });
  const [picked, setPicked] = useState(/** @type {number | null} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    const run = async () => {
      try {
        for (const keyspace of names) {
          let cursor = "";
          do {
            const page = await get("/expiry", { keyspace, cursor }, { signal: abort.signal, background: true });
            if (abort.signal.aborted) return;
            cursor = page.cursor ?? "";
            setState((was) => {
              const hours = { ...was.hours };
              for (const { from, keys, bytes } of page.hours) {
                const before = hours[from] ?? NOTHING;
                hours[from] = { keys: before.keys + keys, bytes: before.bytes + bytes, spaces: { ...before.spaces, [keyspace]: (before.spaces[keyspace] ?? 0) + keys } };
              }
              return { ...was, hours, later: was.later + page.later, never: was.never + page.never, examined: was.examined + page.examined };
            });
          } while (cursor);
        }
        setState((was) => ({ ...was, done: true }));
      } catch (error) {
        if (!abort.signal.aborted) setState((was) => ({ ...was, error, done: true }));
      }
    };
    run();
    return () => abort.abort();
  }, []);
  const due = Object.values(state.hours);
  const keys = due.reduce((sum, one) => sum + one.keys, 0);
  const bytes = due.reduce((sum, one) => sum + one.bytes, 0);
  const most = due.reduce((max, one) => Math.max(max, one.keys), 0);
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  const days = Array.from({ length: 8 }, (_, at) => new Date(today.getFullYear(), today.getMonth(), today.getDate() + at));
  const level = (/** @type {number} */ amount) => (amount === 0 ? "" : `l${Math.min(4, 1 + Math.floor((Math.log(amount) / Math.log(Math.max(most, 2))) * 3.99))}`);
  const at = picked === null ? null : { from: picked, ...(state.hours[picked] ?? NOTHING) };
  return html`
    ${state.error && html`<${Failed} error=${state.error} />`}
    <section class="card" aria-label="Calendar">
      <div class="card-head"><span class="grow" role="status">${count(keys)} keys (${size(bytes)}) fall due, ${count(state.later)} later, ${count(state.never)} never. ${state.done ? "" : `${count(state.examined)} entries looked at…`}</span>${!state.done && html`<span class="spin"></span>`}</div>
      ${state.done && keys === 0
        ? html`<${Empty} icon="calendar" title="Nothing falls due in the next seven days"><p>Entries get an expiry from the programs that write them, or on their page here.</p><a class="button" href=${href(["browse", chosen || names[0] || "default"])}>Browse</a><//>`
        : html`<div class="card-body table-wrap" tabindex="0" role="region" aria-label="Calendar by day and hour"><table class="calendar"><thead><tr><th scope="col"><span class="sr">Day</span></th>${Array.from({ length: 24 }, (_, hour) => html`<th scope="col">${String(hour).padStart(2, "0")}</th>`)}</tr></thead>
          <tbody>${days.map((day) => html`<tr><th scope="row">${day.toLocaleDateString("en-GB", { weekday: "short", day: "2-digit", month: "short" })}</th>${Array.from({ length: 24 }, (_, hour) => {
            const moment = new Date(day.getFullYear(), day.getMonth(), day.getDate(), hour).getTime();
            const from = Math.floor(moment / HOUR) * HOUR;
            const found = state.hours[from] ?? NOTHING;
            const label = `${day.toLocaleDateString("en-GB")} ${hour}:00: ${found.keys} keys, ${size(found.bytes)}`;
            return html`<td class=${level(found.keys)} title=${label}>${found.keys > 0 && html`<button aria-label=${label} onClick=${() => setPicked(from)}>${short(found.keys).replace(/ /g, "")}</button>`}</td>`;
          })}</tr>`)}</tbody></table></div>`}
    </section>
    ${at && html`<${Note}><div class="row"><span class="grow">${new Date(at.from).toLocaleString("en-GB", { weekday: "long", hour: "2-digit", minute: "2-digit" })}: ${count(at.keys)} keys, ${size(at.bytes)}</span>${Object.entries(at.spaces).map(([name, amount]) => html`<a class="button slim" href=${href(["browse", name], { mode: "list", expires: Math.max(1, Math.ceil((at.from + HOUR - Date.now()) / 1000)) })}>List ${count(amount)} in ${name}</a>`)}</div><//>`}`;
}
