// The namespaces of the Classworks API, and what its page shows.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get, put } from "./api.js";
import { href } from "./route.js";
import { keyJson } from "./keys.js";
import { Empty, Failed, Field, PageHead, Skeleton, toast, useLoaded, valueOf } from "./ui.js";

export function Classworks() {
  const found = useLoaded((signal) => get("/classworks/namespaces", { limit: 200 }, { signal }), []);
  const list = found.value?.namespaces ?? [];
  const kinds = { PUBLIC: "good", PROTECTED: "warn", PRIVATE: "bad" };
  return html`
    <${PageHead} title="Classworks" text="Namespaces, one for each device or class." />
    <section class="card" aria-label="Namespaces">
      ${found.error ? html`<div class="card-body"><${Failed} error=${found.error} retry=${found.reload} /></div>` : !found.value ? html`<${Skeleton} />` : list.length === 0 ? html`<${Empty} icon="class" title="No namespace yet"><p>The first write of a device makes its namespace.</p><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All namespaces"><table class="table"><thead><tr><th scope="col">Namespace</th><th scope="col">Name</th><th scope="col">Access</th><th scope="col">Password</th></tr></thead><tbody>${list.map((/** @type {any} */ one) => html`<tr><td class="break"><a class="mono" href=${href(["browse", "classworks"], { prefix: keyJson([{ type: "string", value: one.namespace }]) })}>${one.namespace}</a></td><td class="break">${one.name ?? html`<span class="muted">none</span>`}</td><td><span class=${`badge ${kinds[/** @type {"PUBLIC"} */ (one.accessType)] ?? ""}`}>${String(one.accessType).toLowerCase()}</span></td><td>${one.hasPassword ? "set" : html`<span class="muted">none</span>`}</td></tr>`)}</tbody></table></div>`}
    </section>
    <${Info} />`;
}

function Info() {
  const loaded = useLoaded((signal) => get("/classworks/info", {}, { signal }), []);
  const [info, setInfo] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => setInfo(loaded.value), [loaded.value]);
  if (!info) return null;
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(null);
    try {
      loaded.set(await put("/classworks/info", info));
      toast("Saved. The page shows it at once.");
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<section class="card" aria-label="Page for people"><div class="card-head"><h2>Page for people</h2></div><form class="card-body stack" onSubmit=${save}>
    <${Field} label="Title">${(/** @type {string} */ id) => html`<input id=${id} class="input" value=${info.title} onInput=${(/** @type {any} */ event) => setInfo({ ...info, title: valueOf(event) })} />`}<//>
    <${Field} label="Text">${(/** @type {string} */ id) => html`<textarea id=${id} class="textarea" value=${info.readme} onInput=${(/** @type {any} */ event) => setInfo({ ...info, readme: valueOf(event) })}></textarea>`}<//>
    ${error && html`<${Failed} error=${error} />`}
    <div class="row"><button class="button primary">Save</button></div>
  </form></section>`;
}
