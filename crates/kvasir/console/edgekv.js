// EdgeKV: namespaces, access tokens, and the credentials of its administration API.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { get, post, remove } from "./api.js";
import { duration, instant } from "./format.js";
import { Icon } from "./icons.js";
import { keyJson } from "./keys.js";
import { href } from "./route.js";
import { Confirm, Dialog, Empty, Failed, Field, PageHead, Secret, Skeleton, toast, useLoaded, valueOf } from "./ui.js";

export function EdgeKv() {
  const found = useLoaded((signal) => get("/edgekv/overview", {}, { signal }), []);
  const clients = useLoaded((signal) => get("/edgekv/clients", {}, { signal }), []);
  const [isMaking, setIsMaking] = useState(false);
  const [ending, setEnding] = useState(/** @type {any} */ (null));
  const { namespaces = [], tokens = [] } = found.value ?? {};
  const prefix = (/** @type {any} */ one) => keyJson([one.network, one.name].map((value) => ({ type: "string", value })));
  return html`
    <${PageHead} title="EdgeKV" text="Namespaces and access tokens are made with the vendor's own clients; here is what there is." />
    <section class="card" aria-label="Namespaces"><div class="card-head"><h2>Namespaces</h2></div>
      ${found.error ? html`<div class="card-body"><${Failed} error=${found.error} retry=${found.reload} /></div>` : !found.value ? html`<${Skeleton} lines=${3} />` : namespaces.length === 0 ? html`<${Empty} icon="edge" title="Not initialised yet"><p>The first <code>PUT /edgekv/v1/initialize</code> makes the namespace default on both networks.</p><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All namespaces"><table class="table"><thead><tr><th scope="col">Namespace</th><th scope="col">Network</th><th scope="col">Place</th><th scope="col">Items are kept</th><th scope="col">State</th></tr></thead><tbody>${namespaces.map((/** @type {any} */ one) => html`<tr><td class="break"><a class="mono" href=${href(["browse", "edgekv"], { prefix: prefix(one) })}>${one.name}</a></td><td>${one.network}</td><td>${one.geoLocation}</td><td>${one.retentionSeconds ? duration(one.retentionSeconds * 1000) : "for ever"}</td><td>${one.deletesAt ? html`<span class="badge bad">deleted at ${instant(one.deletesAt)}</span>` : html`<span class="badge good">in use</span>`}</td></tr>`)}</tbody></table></div>`}
    </section>
    <section class="card" aria-label="Access tokens"><div class="card-head"><h2>Access tokens</h2></div>
      ${!found.value ? html`<${Skeleton} lines=${2} />` : tokens.length === 0 ? html`<${Empty} icon="token" title="No access token yet"><p>Programs at the edge read and write items with them. Make one with <code>akamai edgekv create token</code>.</p><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All access tokens"><table class="table"><thead><tr><th scope="col">Name</th><th scope="col">Networks</th><th scope="col">Allows</th><th scope="col">Issued</th><th scope="col">State</th></tr></thead><tbody>${tokens.map((/** @type {any} */ token) => html`<tr><td class="break">${token.name}</td><td>${[token.onStaging && "staging", token.onProduction && "production"].filter(Boolean).join(", ")}</td><td class="small">${token.permissions.map((/** @type {any} */ one) => html`<div class="break">${one.namespace}: ${one.verbs.join(", ")}</div>`)}</td><td class="small muted nowrap">${instant(token.issuedAt)}</td><td><span class=${`badge ${token.expired ? "warn" : "good"}`}>${token.expired ? "expired" : token.lastDay ? `until ${token.lastDay}` : "until revoked"}</span></td></tr>`)}</tbody></table></div>`}
    </section>
    <section class="card" aria-label="Credentials"><div class="card-head"><h2 class="grow">Credentials for administration</h2><button class="button slim" onClick=${() => setIsMaking(true)}><${Icon} name="plus" />New credential</button></div>
      ${clients.error ? html`<div class="card-body"><${Failed} error=${clients.error} retry=${clients.reload} /></div>` : !clients.value ? html`<${Skeleton} lines=${2} />` : clients.value.clients.length === 0 ? html`<${Empty} icon="token" title="No credential"><p>Requests of EdgeKV's administration API are signed with one.</p><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All credentials"><table class="table"><thead><tr><th scope="col">Name</th><th scope="col">Client token</th><th scope="col">Made</th><th scope="col">State</th><th scope="col"><span class="sr">Actions</span></th></tr></thead><tbody>${clients.value.clients.map((/** @type {any} */ one) => html`<tr><td class="break">${one.name}</td><td><code class="break">${one.clientToken}</code></td><td class="small muted nowrap">${instant(one.createdAt)}</td><td><span class=${`badge ${one.revoked ? "bad" : "good"}`}>${one.revoked ? "revoked" : "valid"}</span></td><td class="num">${!one.revoked && html`<button class="button slim danger" aria-label=${`Revoke ${one.name}`} onClick=${() => setEnding(one)}>Revoke</button>`}</td></tr>`)}</tbody></table></div>`}
    </section>
    ${isMaking && html`<${NewClient} close=${() => { setIsMaking(false); clients.reload(); }} />`}
    ${ending && html`<${Confirm} title="Revoke this credential?" verb="Revoke" close=${() => setEnding(null)} act=${async () => { await remove(`/edgekv/clients/${encodeURIComponent(ending.clientToken)}`); toast("Revoked."); clients.reload(); }} text=${html`<p>Programs that sign with <strong>${ending.name}</strong> are refused from now on.</p>`} />`}`;
}

/** @param {{ close: () => void }} props */
function NewClient({ close }) {
  const [name, setName] = useState("");
  const [made, setMade] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      setMade(await post("/edgekv/clients", { name }));
    } catch (failure) {
      setError(failure);
    }
  };
  if (made) {
    const text = `[default]\nhost = ${location.hostname}:8443\nclient_token = ${made.clientToken}\nclient_secret = ${made.clientSecret}\naccess_token = ${made.accessToken}`;
    return html`<${Dialog} title="Copy the credential now" close=${close} foot=${html`<button class="button primary" onClick=${close}>I have copied it</button>`}><p>For the file <code>.edgerc</code>. The secret is not shown again.</p><pre class="code" tabindex="0" aria-label="New credential">${text}</pre><${Secret} text=${made.clientSecret} label="Client secret" /><//>`;
  }
  return html`<${Dialog} title="New credential" close=${close} foot=${html`<button class="button" onClick=${close}>Cancel</button><button class="button primary" form="new-client" disabled=${!name.trim()}>Make the credential</button>`}>
    <form id="new-client" class="stack" onSubmit=${make}><${Field} label="Name" hint="What people call it.">${(/** @type {string} */ id) => html`<input id=${id} class="input" maxlength="100" required value=${name} onInput=${(/** @type {any} */ event) => setName(valueOf(event))} />`}<//>${error && html`<${Failed} error=${error} />`}</form><//>`;
}
