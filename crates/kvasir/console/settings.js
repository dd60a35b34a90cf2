// Every setting in force, and where it came from.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { ApiFailure, get, post } from "./api.js";
import { count } from "./format.js";
import { Icon } from "./icons.js";
import { Empty, Failed, Note, PageHead, Skeleton, useLoaded, valueOf } from "./ui.js";

/** @param {any} props */
export function Settings({ health }) {
  const found = useLoaded((signal) => get("/settings", {}, { signal }), []);
  const [text, setText] = useState("");
  const [onlySet, setOnlySet] = useState(false);
  const [told, setTold] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const all = found.value?.settings ?? [];
  const rows = all.filter((/** @type {any} */ row) => (!onlySet || row.origin !== "default") && `${row.setting} ${row.value ?? ""}`.toLowerCase().includes(text.toLowerCase()));
  const reload = async () => {
    setTold(null);
    setError(null);
    try {
      setTold(await post("/config/reload"));
      found.reload();
    } catch (failure) {
      setError(failure);
    }
  };
  const isMissing = found.error instanceof ApiFailure && [404, 409].includes(found.error.status);
  const store = health?.store;
  return html`
    <${PageHead} title="Settings" text="What is in force, and which flag, variable or line of a file it came from.">${found.value && html`<button class="button" onClick=${reload}><${Icon} name="refresh" />Read again</button>`}<//>
    ${error && html`<${Failed} error=${error} />`}
    ${told && html`<${Note} kind=${told.waiting.length ? "warn" : "good"}>${told.applied.length + told.waiting.length === 0 ? "Nothing has changed." : html`${told.applied.length > 0 && html`<div>In force now: ${told.applied.join(", ")}.</div>`}${told.waiting.length > 0 && html`<div>Waiting for a restart: ${told.waiting.join(", ")}.</div>`}`}<//>`}
    ${!store ? !health && html`<section class="card"><div class="card-head"><h2>Store</h2></div><${Skeleton} lines=${5} /></section>` : html`<section class="card" aria-label="Store"><div class="card-head"><h2>Store</h2></div><dl class="card-body facts small"><dt>Backend</dt><dd>${store.backend}</dd><dt>Commits</dt><dd>${store.durable ? "survive the end of the process" : "are lost with the process"}</dd><dt>Other servers</dt><dd>${store.shared ? "may write the same data" : "none: this process alone holds it"}</dd><dt>Newest version</dt><dd><code>${store.versionstamp ?? "unknown"}</code></dd><dt>Largest value</dt><dd>${count(store.valueBytesMax)} bytes</dd></dl></section>`}
    <section class="card" aria-label="Settings">
      ${isMissing ? html`<${Empty} icon="settings" title="This server does not show its settings"><p>On its machine <code>kvasir config show</code> prints them with their origins.</p><//>` : found.error ? html`<div class="card-body"><${Failed} error=${found.error} retry=${found.reload} /></div>` : !found.value ? html`<${Skeleton} lines=${8} />` : html`
        <div class="toolbar"><div class="search"><${Icon} name="search" /><input class="input" data-search type="search" aria-label="Find settings" placeholder="Find settings" value=${text} onInput=${(/** @type {any} */ event) => setText(valueOf(event))} /></div><label class="check"><input type="checkbox" checked=${onlySet} onChange=${() => setOnlySet(!onlySet)} />Only those that are set</label></div>
        ${rows.length === 0 ? html`<${Empty} icon="search" title="No setting matches" />` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All settings"><table class="table"><thead><tr><th scope="col">Setting</th><th scope="col">Value</th><th scope="col">Origin</th><th scope="col">A change counts</th></tr></thead><tbody>${rows.map((/** @type {any} */ row) => html`<tr key=${row.setting}><td><code class="break">${row.setting}</code></td><td><code class="break">${row.value === null ? html`<span class="muted">none</span>` : row.value === "" ? html`<span class="muted">empty</span>` : row.value}</code></td><td class="break">${row.origin === "default" ? html`<span class="muted">default</span>` : row.origin}</td><td class="small nowrap muted">${row.live ? "after a reload" : "after a restart"}</td></tr>`)}</tbody></table></div>`}`}
    </section>`;
}
