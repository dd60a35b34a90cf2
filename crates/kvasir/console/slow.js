// Requests that took long, and on what.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { ApiFailure, get } from "./api.js";
import { clock, instant, short } from "./format.js";
import { Icon } from "./icons.js";
import { Dialog, Empty, Failed, PageHead, Segments, Skeleton, useLoaded } from "./ui.js";

/** The parts of a request's time: member, name. @type {[string, string][]} */
const PARTS = [
  ["authoriseMs", "authorise"],
  ["queueMs", "queue"],
  ["lockMs", "lock"],
  ["engineMs", "engine"],
  ["syncMs", "sync"],
  ["sendMs", "send"],
];

/** @param {any} one */
function partsOf(one) {
  const parts = PARTS.map(([member, name]) => ({ name, ms: one[member] ?? 0 }));
  const rest = Math.max(0, one.totalMs - parts.reduce((sum, part) => sum + part.ms, 0));
  return [...parts, { name: "other", ms: rest }];
}

/** @param {{ one: any }} props */
function Split({ one }) {
  const parts = partsOf(one);
  const all = Math.max(1e-9, parts.reduce((sum, part) => sum + part.ms, 0));
  return html`<span class="split-bar" role="img" aria-label=${parts.filter((part) => part.ms > 0).map((part) => `${part.name} ${short(part.ms)} ms`).join(", ")}>${parts.map((part) => part.ms > 0 && html`<span class=${`p-${part.name}`} style=${{ width: `${(part.ms / all) * 100}%` }} title=${`${part.name} ${short(part.ms)} ms`}></span>`)}</span>`;
}

export function Slow() {
  const slow = useLoaded((signal) => get("/slow", { limit: 500 }, { signal }), []);
  const [order, setOrder] = useState("newest");
  const [open, setOpen] = useState(/** @type {any} */ (null));
  const rows = [...(slow.value?.requests ?? [])];
  if (order === "slowest") rows.sort((a, b) => b.totalMs - a.totalMs);
  const isMissing = slow.error instanceof ApiFailure && [404, 409].includes(slow.error.status);
  return html`
    <${PageHead} title="Slow requests" text="The last thousand that took longer than their class may, and where their time went.">
      <${Segments} label="Order" value=${order} choose=${setOrder} options=${[["newest", "Newest"], ["slowest", "Slowest"]]} />
      <button class="button" onClick=${slow.reload}><${Icon} name="refresh" />Refresh</button>
    <//>
    <section class="card" aria-label="Slow requests">
      ${isMissing ? html`<${Empty} icon="slow" title="This server keeps no slow log"><p>It appears here once the server measures its requests.</p><//>` : slow.error ? html`<div class="card-body"><${Failed} error=${slow.error} retry=${slow.reload} /></div>` : !slow.value ? html`<${Skeleton} />` : rows.length === 0 ? html`<${Empty} icon="check" title="Nothing was slow"><p>From when on a request counts as slow is set by <code>slowlog.read</code>, <code>slowlog.write</code> and <code>slowlog.scan</code>.</p><//>` : html`
        <div class="card-head legend">${[...PARTS.map(([, name]) => name), "other"].map((name) => html`<span class="row small muted"><span class=${`swatch p-${name}`}></span>${name}</span>`)}</div>
        <div class="table-wrap" tabindex="0" role="region" aria-label="All slow requests"><table class="table"><thead><tr><th scope="col">When</th><th scope="col">Request</th><th scope="col">API</th><th scope="col" class="num">Status</th><th scope="col" class="num">Time</th><th scope="col">Where it went</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
        <tbody>${rows.map((one) => html`<tr key=${one.request}><td class="small muted nowrap">${clock(one.atMs)}</td><td class="break"><code>${one.method} ${one.route}</code></td><td>${one.dialect}</td><td class="num">${one.status}</td><td class="num nowrap">${short(one.totalMs)} ms</td><td class="wide-cell"><${Split} one=${one} /></td><td class="num"><button class="button slim" aria-label=${`Details of ${one.request}`} onClick=${() => setOpen(one)}>Details</button></td></tr>`)}</tbody></table></div>`}
    </section>
    ${open && html`<${Dialog} title="Slow request" close=${() => setOpen(null)}><dl class="facts small"><dt>When</dt><dd>${instant(open.atMs)}</dd><dt>Request</dt><dd><code>${open.method} ${open.target}</code></dd><dt>Route</dt><dd><code>${open.route}</code></dd><dt>Id</dt><dd><code>${open.request}</code></dd><dt>Class</dt><dd>${open.class}</dd>${partsOf(open).map((part) => html`<dt>${part.name}</dt><dd class="nowrap">${part.ms.toFixed(2)} ms</dd>`)}<dt>Total</dt><dd><strong>${open.totalMs.toFixed(2)} ms</strong></dd></dl><//>`}`;
}
