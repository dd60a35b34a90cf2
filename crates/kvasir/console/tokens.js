// Tokens: making one for a prefix, ending it, and why a request is refused.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { get, post, remove } from "./api.js";
import { duration, instant, relative } from "./format.js";
import { Icon } from "./icons.js";
import { parseKey } from "./keys.js";
import { fromBase64, toBase64 } from "./format.js";
import { Confirm, Dialog, Empty, Failed, Field, Note, PageHead, Secret, Skeleton, toast, useLoaded, useNow, valueOf } from "./ui.js";
import { useForgeryToken } from "./api.js";

const DIALECTS = ["rest", "deno", "accounts", "kopano", "edgekv", "classworks", "admin"];
const VERBS = ["read", "write", "delete", "admin"];

/** Key parts in the short form that grants use. @param {import("./keys.js").Part[]} key */
const plainParts = (key) =>
  key.map((part) => {
    if (part.type === "bigint") return { bigint: part.value };
    if (part.type === "Uint8Array") return { bytes: toBase64(fromBase64(part.value)) };
    if (part.type === "number" && typeof part.value === "string") return { number: part.value };
    return part.value;
  });

/** @param {any} part */
const plainText = (part) => (typeof part === "object" && part !== null ? (part.bigint ? `${part.bigint}n` : JSON.stringify(part)) : JSON.stringify(part));

/** All tokens, page by page. @param {AbortSignal} signal */
async function all(signal) {
  const found = [];
  let cursor = "";
  do {
    const page = await get("/tokens", { limit: 1000, cursor }, { signal });
    found.push(...page.tokens);
    cursor = page.cursor ?? "";
  } while (cursor);
  return found;
}

/** Networks as people type them. @param {string} text */
const networks = (text) => text.split(/[\s,;]+/).filter(Boolean);

/** @param {any} props */
export function Tokens({ route, session, renew }) {
  const tokens = useLoaded(all, []);
  const [isMaking, setIsMaking] = useState(Boolean(route.query.new));
  const [ending, setEnding] = useState(/** @type {any} */ (null));
  const now = useNow(30000);
  const list = tokens.value ?? [];
  return html`
    <${PageHead} title="Tokens" text="What lets programs in. A token is shown once and stored as a hash.">
      <button class="button primary" onClick=${() => setIsMaking(true)}><${Icon} name="plus" />New token</button>
    <//>
    ${session.by === "open" && html`<${Note} kind="warn"><strong>This server is open to programs on its machine.</strong> The first token closes it: from then on every request needs one.<//>`}
    <section class="card" aria-label="Tokens">
      ${tokens.error ? html`<div class="card-body"><${Failed} error=${tokens.error} retry=${tokens.reload} /></div>` : !tokens.value ? html`<${Skeleton} />` : list.length === 0 ? html`<${Empty} icon="token" title="No token yet"><p>Make one for each program, for no more than the keys it needs.</p><button class="button" onClick=${() => setIsMaking(true)}><${Icon} name="plus" />New token</button><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All tokens"><table class="table"><thead><tr><th scope="col">Name</th><th scope="col">Allows</th><th scope="col">State</th><th scope="col">Last use</th><th scope="col">Made</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
        <tbody>${list.map((/** @type {any} */ token) => html`<tr key=${token.id}>
          <td><div class="break">${token.name}</div><code class="muted">${token.id}</code></td>
          <td><div class="stack tight">${token.grants.map((/** @type {any} */ grant) => html`<${Grant} grant=${grant} />`)}${token.sources.length > 0 && html`<span class="small">from <code class="break">${token.sources.join(", ")}</code></span>`}</div></td>
          <td><span class=${`badge ${token.state === "valid" ? "good" : token.state === "revoked" ? "bad" : "warn"}`}>${token.state}</span>${token.state === "valid" && token.expiresAt && html`<div class="small muted nowrap">ends ${relative(Date.parse(token.expiresAt), now)}</div>`}</td>
          <td class="small nowrap">${token.lastUsedAt ? html`<div title=${instant(token.lastUsedAt)}>${duration(now - Date.parse(token.lastUsedAt))} ago</div><div class="muted">from ${token.lastUsedFrom}</div>` : html`<span class="muted">never</span>`}</td>
          <td class="small muted nowrap">${instant(token.createdAt)}</td>
          <td class="num">${token.state === "valid" && html`<button class="button slim danger" aria-label=${`Revoke ${token.name}`} onClick=${() => setEnding(token)}>Revoke</button>`}</td>
        </tr>`)}</tbody></table></div>`}
    </section>
    <${Explain} />
    ${isMaking && html`<${NewToken} session=${session} close=${(/** @type {boolean} */ isMade) => { setIsMaking(false); if (isMade) { tokens.reload(); renew(); } }} />`}
    ${ending && html`<${Confirm} title="Revoke this token?" verb="Revoke" close=${() => setEnding(null)} act=${async () => { await remove(`/tokens/${ending.id}`); toast("Revoked. It lets nobody in any more."); tokens.reload(); }} text=${html`<p><strong>${ending.name}</strong> lets nobody in from now on, on all nodes. Its record stays in this list.</p>`} />`}`;
}

/** @param {{ grant: any }} props */
function Grant({ grant }) {
  const prefix = grant.prefix ?? [];
  return html`<span class="row small"><span class="badge accent">${grant.verbs.join(", ")}</span><span class="break">${grant.keyspace ?? "all keyspaces"}${prefix.length > 0 && html` at <code>[${prefix.map(plainText).join(", ")}]</code>`}${grant.dialects.length > 0 && html` by ${grant.dialects.join(", ")}`}</span></span>`;
}

/** @param {any} props */
function NewToken({ session, close }) {
  const [name, setName] = useState("");
  const [verbs, setVerbs] = useState(["read", "write", "delete"]);
  const [dialects, setDialects] = useState(/** @type {string[]} */ ([]));
  const [keyspace, setKeyspace] = useState("default");
  const [prefix, setPrefix] = useState("");
  const [days, setDays] = useState("");
  const [sources, setSources] = useState("");
  const [withAdmin, setWithAdmin] = useState(true);
  const [made, setMade] = useState(/** @type {any} */ (null));
  const [admin, setAdmin] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const spaces = useLoaded((signal) => get("/keyspaces", {}, { signal }), []);
  const names = new Set(["default", ...(spaces.value?.keyspaces.map((/** @type {any} */ one) => one.name) ?? [])]);
  const parsed = parseKey(prefix);
  const wrong = "error" in parsed ? parsed.error : null;
  const isEverything = keyspace === "" && prefix.trim() === "" && verbs.includes("admin") && dialects.length === 0;
  const isFirst = session.by === "open" && !isEverything;
  const toggled = (/** @type {string[]} */ list, /** @type {string} */ one) => (list.includes(one) ? list.filter((other) => other !== one) : [...list, one]);

  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      let mine = admin;
      if (isFirst && withAdmin && !mine) {
        // Before the server closes: a token for whoever sits here, and a session by it. It is shown
        // whatever becomes of the other one.
        mine = await post("/tokens", { name: "administrator", grants: [{ verbs: VERBS }] });
        setAdmin(mine);
        const entered = await post("/session", { token: mine.token });
        useForgeryToken(entered.forgeryToken);
      }
      const grant = { verbs: VERBS.filter((verb) => verbs.includes(verb)), dialects, keyspace: keyspace || null, prefix: "key" in parsed ? plainParts(parsed.key) : [] };
      const token = await post("/tokens", { name, grants: [grant], sources: networks(sources), ttlSeconds: days ? Math.round(Number(days) * 86400) : null });
      if (session.by === "open" && isEverything) {
        const entered = await post("/session", { token: token.token });
        useForgeryToken(entered.forgeryToken);
      }
      setMade({ token, admin: mine });
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const leave = () => (admin ? setMade({ token: null, admin }) : close(false));
  if (made) {
    return html`<${Dialog} title="Copy the token now" close=${() => close(true)} foot=${html`<button class="button primary" onClick=${() => close(true)}>I have copied it</button>`}>
      <p>It is not shown again: the server keeps only its hash.</p>
      ${made.token && html`<div class="stack tight"><span class="label break">${made.token.name}</span><${Secret} text=${made.token.token} label="New token" /></div>`}
      ${made.admin && html`<div class="stack tight"><span class="label">Administrator, for you</span><${Secret} text=${made.admin.token} label="Administrator token" /><span class="hint">This browser is logged in with it already.</span></div>`}
    <//>`;
  }
  const foot = html`<button class="button" onClick=${leave}>Cancel</button><button class="button primary" form="new-token" disabled=${busy || Boolean(wrong) || !verbs.length || !name.trim()}>Make the token</button>`;
  return html`<${Dialog} title="New token" close=${leave} foot=${foot}>
    <form id="new-token" class="stack" onSubmit=${make}>
      <${Field} label="Name" hint="What people call it: the program that will hold it.">${(/** @type {string} */ id) => html`<input id=${id} class="input" maxlength="100" required value=${name} onInput=${(/** @type {any} */ event) => setName(valueOf(event))} />`}<//>
      <fieldset class="checks"><legend class="label">May</legend>${VERBS.map((verb) => html`<label class="check"><input type="checkbox" checked=${verbs.includes(verb)} onChange=${() => setVerbs(toggled(verbs, verb))} />${verb}</label>`)}</fieldset>
      <${Field} label="Keyspace">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${keyspace} onChange=${(/** @type {any} */ event) => setKeyspace(valueOf(event))}>${[...names].map((one) => html`<option value=${one} selected=${one === keyspace}>${one}</option>`)}<option value="" selected=${keyspace === ""}>All keyspaces</option></select>`}<//>
      <${Field} label="Prefix" error=${wrong} hint=${html`The key at and below which it holds: <code>users/john</code> or <code>["users", 1]</code>. Empty for all keys.`}>${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" value=${prefix} onInput=${(/** @type {any} */ event) => setPrefix(valueOf(event))} />`}<//>
      <fieldset class="checks"><legend class="label">Through these APIs (none ticked: all)</legend>${DIALECTS.map((dialect) => html`<label class="check"><input type="checkbox" checked=${dialects.includes(dialect)} onChange=${() => setDialects(toggled(dialects, dialect))} />${dialect}</label>`)}</fieldset>
      <${Field} label="From these networks" hint=${html`Addresses and networks, such as <code>10.0.0.0/8</code> or <code>192.0.2.7 2001:db8::/32</code>. Empty for anywhere.`}>${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" value=${sources} onInput=${(/** @type {any} */ event) => setSources(valueOf(event))} />`}<//>
      <${Field} label="Ends after">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${days} onChange=${(/** @type {any} */ event) => setDays(valueOf(event))}>${[["", "never"], ["1", "1 day"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "1 year"]].map(([value, label]) => html`<option value=${value} selected=${value === days}>${label}</option>`)}</select>`}<//>
      ${isFirst && html`<${Note} kind="warn"><label class="check"><input type="checkbox" checked=${withAdmin} onChange=${() => setWithAdmin(!withAdmin)} />Make an administrator token for me too</label><div class="small">This is the first token. Without an administrator's you can come back here only by <code>kvasir ui</code> on the server's machine.</div><//>`}
      ${error && html`<${Failed} error=${error} />`}
    </form>
  <//>`;
}

function Explain() {
  const [asked, setAsked] = useState({ token: "", dialect: "rest", keyspace: "default", key: "", verb: "read", from: "" });
  const [answer, setAnswer] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const parsed = parseKey(asked.key);
  const wrong = "error" in parsed ? parsed.error : null;
  const change = (/** @type {string} */ member) => (/** @type {any} */ event) => setAsked({ ...asked, [member]: valueOf(event) });
  const ask = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(null);
    setAnswer(null);
    try {
      setAnswer(await post("/tokens/explain", { ...asked, token: asked.token.trim(), from: asked.from.trim() || null, key: "key" in parsed ? plainParts(parsed.key) : [] }));
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<section class="card" aria-label="Explain"><div class="card-head"><h2 class="grow">Why was a request refused?</h2></div>
    <form class="card-body stack" onSubmit=${ask}>
      <div class="row top-align">
        <div class="grow"><${Field} label="Token or its id">${(/** @type {string} */ id) => html`<input id=${id} class="input mono" autocomplete="off" spellcheck="false" required value=${asked.token} onInput=${change("token")} />`}<//></div>
        <${Field} label="API">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${asked.dialect} onChange=${change("dialect")}>${DIALECTS.map((one) => html`<option value=${one} selected=${one === asked.dialect}>${one}</option>`)}</select>`}<//>
        <${Field} label="Wants to">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${asked.verb} onChange=${change("verb")}>${VERBS.map((one) => html`<option value=${one} selected=${one === asked.verb}>${one}</option>`)}</select>`}<//>
      </div>
      <div class="row top-align">
        <${Field} label="In the keyspace">${(/** @type {string} */ id) => html`<input id=${id} class="input" required value=${asked.keyspace} onInput=${change("keyspace")} />`}<//>
        <div class="grow"><${Field} label="The key" error=${wrong}>${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" placeholder='users/john or ["users", 1]' value=${asked.key} onInput=${change("key")} />`}<//></div>
        <${Field} label="From the address">${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" placeholder="any" value=${asked.from} onInput=${change("from")} />`}<//>
        <div class="field"><span class="label" aria-hidden="true"> </span><button class="button" disabled=${Boolean(wrong)}>Explain</button></div>
      </div>
      ${error && html`<${Failed} error=${error} />`}
      ${answer && html`<${Note} kind=${answer.allowed ? "good" : "bad"}><strong>${answer.allowed ? "Allowed" : "Refused"}</strong>: ${answer.reason}.
        ${answer.grants.length > 0 && html`<ul class="stack tight">${answer.grants.map((/** @type {any} */ one) => html`<li><${Grant} grant=${one.grant} /><div class="small">${one.mismatch ? `Does not fit: ${one.mismatch}.` : "Fits."}</div></li>`)}</ul>`}<//>`}
    </form></section>`;
}
