// One entry: its value to be edited, its expiry, who wrote it when, how programs reach it.
// @ts-check
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { ApiFailure, get, listen, put, remove } from "./api.js";
import { Diff } from "./diff.js";
import { ValueEditor, draftBody, draftFault, draftOf, draftSize, draftText, newDraft } from "./editor.js";
import { duration, instant, localInput, relative, size } from "./format.js";
import { Icon } from "./icons.js";
import { keyFromJson, keyJson, keyText, parseKey } from "./keys.js";
import { go, guardLeaving, href } from "./route.js";
import { Snippets } from "./snippets.js";
import { Confirm, CopyButton, Empty, Failed, Field, KeyParts, Note, PageHead, Segments, Skeleton, toast, useLoaded, useNow, valueOf } from "./ui.js";
import { entryText } from "./values.js";

/** @param {any} props */
export function EntryPage({ route, health }) {
  const keyspace = route.path[1] ?? "default";
  if (route.query.new) return html`<${NewEntry} key=${keyspace} keyspace=${keyspace} prefix=${keyFromJson(route.query.prefix ?? "[]")} health=${health} />`;
  const key = keyFromJson(route.query.key ?? "[]");
  return html`<${Existing} key=${keyspace + keyJson(key)} keyspace=${keyspace} parts=${key} health=${health} />`;
}

/** @param {any} props */
function Existing({ keyspace, parts, health }) {
  const loaded = useLoaded((signal) => get("/entry", { keyspace, key: keyJson(parts) }, { signal }), [keyspace, keyJson(parts)]);
  const head = html`<${PageHead} title=${html`<${KeyParts} parts=${parts} />`} text=${html`<${Way} keyspace=${keyspace} parts=${parts} />`} />`;
  if (loaded.error instanceof ApiFailure && loaded.error.status === 404) {
    return html`${head}<div class="card"><${Empty} icon="file" title="This key holds nothing"><p>It was removed, it expired, or nothing was written yet.</p>
      <div class="row"><a class="button" href=${href(["browse", keyspace])}>Back to the keys</a><a class="button primary" href=${href(["entry", keyspace], { new: 1, prefix: keyJson(parts) })}>Write it</a></div><//></div>`;
  }
  if (loaded.error) return html`${head}<${Failed} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.value) return html`${head}<div class="card"><${Skeleton} lines=${8} /></div>`;
  return html`<${Entry} entry=${loaded.value} fresh=${loaded.set} gone=${loaded.reload} health=${health} />`;
}

/** @param {any} props */
function Way({ keyspace, parts }) {
  return html`<span class="crumbs"><a href=${href(["browse", keyspace])}>${keyspace}</a>${parts.slice(0, -1).map((/** @type {any} */ part, /** @type {number} */ at) => html`<span class="sep">/</span><a href=${href(["browse", keyspace], { prefix: keyJson(parts.slice(0, at + 1)) })}><${KeyParts} parts=${[part]} oneLine /></a>`)}</span>`;
}

/** @param {any} props */
function Entry({ entry, fresh, gone, health }) {
  const parts = entry.key;
  const [draft, setDraft] = useState(draftOf(entry));
  const [isChanged, setIsChanged] = useState(false);
  const [base, setBase] = useState(entry);
  const [conflict, setConflict] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const [expiresAt, setExpiresAt] = useState(/** @type {number | null} */ (entry.expiresAt));
  const [live, setLive] = useState("waiting");
  const [seen, setSeen] = useState(/** @type {any} */ (null));
  const [asks, setAsks] = useState(false);
  const isDirty = isChanged || expiresAt !== base.expiresAt;
  const wrong = draftFault(draft);
  const held = useRef({ isDirty, base, saveNow: () => {} });
  held.current.isDirty = isDirty;
  held.current.base = base;

  const take = (/** @type {any} */ next) => {
    setBase(next);
    setDraft(draftOf(next));
    setExpiresAt(next.expiresAt);
    setIsChanged(false);
    setConflict(null);
    setError(null);
  };
  useEffect(() => {
    guardLeaving(() => held.current.isDirty);
    return () => guardLeaving(null);
  }, []);
  useEffect(() => {
    let isFirst = true;
    return listen(
      "/watch",
      { keyspace: entry.keyspace, prefix: keyJson(parts.slice(0, -1)), key: keyJson(parts) },
      {
        state: setLive,
        event: (told) => {
          if (told.kind === "missed") isFirst = false;
          if (told.kind === "gone") setSeen({ kind: "gone", at: Date.now() });
          if (told.kind !== "change" || told.entry.versionstamp === held.current.base.versionstamp) return;
          const shown = (/** @type {any} */ next) => {
            const before = held.current.base;
            if (next.versionstamp <= before.versionstamp) return;
            setSeen({ kind: "change", at: Date.now(), before: entryText(before), after: entryText(next), next });
            if (!held.current.isDirty) take(next);
          };
          if (told.entry.typed === undefined && told.entry.raw === undefined) get("/entry", { keyspace: entry.keyspace, key: keyJson(parts) }).then(shown, () => {});
          else shown(told.entry);
        },
      },
      { pauses: true },
    );
  }, []);

  const save = async (/** @type {string | null} */ versionstamp) => {
    if (busy || wrong) return;
    setBusy(true);
    setError(null);
    try {
      const body = { keyspace: entry.keyspace, key: JSON.parse(keyJson(parts)), versionstamp, expiresAt, value: isChanged || versionstamp === null ? draftBody(draft) : undefined };
      const next = await put("/entry", body);
      held.current.isDirty = false;
      held.current.base = next;
      take(next);
      setSeen(null);
      toast("Saved.");
    } catch (failure) {
      if (failure instanceof ApiFailure && failure.status === 409) setConflict({ current: failure.body?.current ?? null });
      else setError(failure);
    } finally {
      setBusy(false);
    }
  };
  held.current.saveNow = () => {
    if (isDirty && !conflict) save(base.versionstamp);
  };
  useEffect(() => {
    const key = (/** @type {KeyboardEvent} */ event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
        event.preventDefault();
        held.current.saveNow();
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const erase = async () => {
    try {
      await remove("/entry", { keyspace: entry.keyspace, key: keyJson(parts), versionstamp: base.versionstamp });
    } catch (failure) {
      if (failure instanceof ApiFailure && failure.status === 409) throw new Error("The entry was changed meanwhile. Look at it again before you remove it.");
      throw failure;
    }
    held.current.isDirty = false;
    guardLeaving(null);
    toast("Removed.");
    go(["browse", entry.keyspace], { prefix: parts.length > 1 ? keyJson(parts.slice(0, -1)) : "" });
  };

  return html`
    <${PageHead} title=${html`<${KeyParts} parts=${parts} />`} text=${html`<${Way} keyspace=${entry.keyspace} parts=${parts} />`}>
      <span class="badge" role="status"><span class=${`live-dot ${live === "open" ? "on" : live === "waiting" ? "wait" : ""}`}></span>${live === "open" ? "live" : live === "waiting" ? "connecting" : "not live"}</span>
      <${CopyButton} text=${keyText(parts)} label="Copy key" slim=${false} />
      <button class="button danger" onClick=${() => setAsks(true)}><${Icon} name="trash" />Remove</button>
    <//>
    ${seen?.kind === "gone" && html`<${Note} kind="warn"><div class="row"><span class="grow">The entry was removed or expired while you looked at it.</span><button class="button slim" onClick=${gone}>Look again</button></div><//>`}
    ${seen?.kind === "change" && html`<section class="card flash" aria-label="What changed"><div class="card-head"><h2 class="grow">Changed at ${new Date(seen.at).toLocaleTimeString("en-GB")}</h2>
      ${isDirty && seen.next.versionstamp !== base.versionstamp && html`<button class="button slim" onClick=${() => take(seen.next)}>Drop my edit and take it</button>`}
      <button class="button ghost slim icon" aria-label="Hide the difference" onClick=${() => setSeen(null)}><${Icon} name="close" /></button></div>
      <div class="card-body"><${Diff} before=${seen.before} after=${seen.after} /></div></section>`}
    ${conflict && html`<${Conflict} conflict=${conflict} mine=${draftText(draft)} takeTheirs=${() => (conflict.current ? take(conflict.current) : gone())} keepMine=${() => { setConflict(null); if (conflict.current) { const mine = draft; const at = expiresAt; setBase(conflict.current); setDraft(mine); setExpiresAt(at); setIsChanged(true); } save(conflict.current?.versionstamp ?? null); }} close=${() => setConflict(null)} />`}
    <div class="split">
      <section class="card" aria-label="Value">
        <div class="card-head"><h2 class="grow">Value</h2><span class="badge accent">${base.encoding}</span>${base.contentType && html`<span class="badge">${base.contentType}</span>`}</div>
        <div class="card-body"><${ValueEditor} key=${base.versionstamp} draft=${draft} change=${(/** @type {any} */ next) => { setDraft(next); setIsChanged(true); }} /></div>
        ${error && html`<div class="card-body"><${Failed} error=${error} /></div>`}
        <div class="sticky-save">
          <span class="grow small muted" role="status">${wrong ? html`<span class="error-text">${wrong}</span>` : isDirty ? "Not saved yet" : "Saved"}</span>
          <button class="button" disabled=${!isDirty} onClick=${() => take(base)}>Undo</button>
          <button class="button primary" disabled=${!isDirty || busy || Boolean(wrong)} onClick=${() => save(base.versionstamp)}>${busy ? "Saving" : "Save"}</button>
        </div>
      </section>
      <div class="stack">
        <${ExpiryCard} at=${expiresAt} change=${setExpiresAt} />
        <${SizeCard} draft=${draft} base=${base} isChanged=${isChanged} keyBytes=${base.keyBytes} health=${health} />
        <section class="card" aria-label="Facts"><div class="card-head"><h2>Facts</h2></div><dl class="card-body facts small">
          <dt>Written</dt><dd>${instant(base.writtenAt)}</dd>
          <dt>Created</dt><dd>${instant(base.createdAt)}</dd>
          ${base.creator && html`<dt>Written by</dt><dd>${base.creator}</dd>`}
          <dt>Version</dt><dd><code>${base.versionstamp}</code></dd>
          <dt>Size</dt><dd>${size(base.bytes)} value, ${size(base.keyBytes)} key</dd>
        </dl></section>
      </div>
    </div>
    <${Snippets} keyspace=${entry.keyspace} parts=${parts} />
    ${asks && html`<${Confirm} title="Remove this entry?" verb="Remove" close=${() => setAsks(false)} act=${erase} text=${html`<p><${KeyParts} parts=${parts} /></p><p>It is gone for every API. This cannot be undone.</p>`} />`}`;
}

/** @param {any} props */
function Conflict({ conflict, mine, takeTheirs, keepMine, close }) {
  const theirs = conflict.current ? entryText(conflict.current) : "(removed)";
  return html`<section class="card" role="alertdialog" aria-label="Conflict">
    <div class="card-head"><${Icon} name="warn" /><h2 class="grow">${conflict.current ? "Somebody changed this entry meanwhile" : "Somebody removed this entry meanwhile"}</h2><button class="button ghost slim icon" aria-label="Close" onClick=${close}><${Icon} name="close" /></button></div>
    <div class="card-body stack"><p>Nothing was overwritten. Compare the two and choose.</p>
      <div class="halves">
        <div class="stack tight"><h3>Stored now${conflict.current && html` <span class="muted">${instant(conflict.current.writtenAt)}</span>`}</h3><pre class="code wrap scroll" tabindex="0" aria-label="Stored now">${theirs}</pre></div>
        <div class="stack tight"><h3>Yours</h3><pre class="code wrap scroll" tabindex="0" aria-label="Yours">${mine}</pre></div>
      </div>
      <details><summary>Line by line</summary><${Diff} before=${theirs} after=${mine} /></details>
      <div class="row"><button class="button" onClick=${takeTheirs}>Take what is stored</button><button class="button danger" onClick=${keepMine}>Save mine over it</button></div>
    </div></section>`;
}

const AHEAD = [
  [3600e3, "1 hour"],
  [86400e3, "1 day"],
  [7 * 86400e3, "1 week"],
  [30 * 86400e3, "30 days"],
];

/** @param {{ at: number | null, change: (at: number | null) => void }} props */
function ExpiryCard({ at, change }) {
  const now = useNow();
  const isPast = at !== null && at <= now;
  return html`<section class="card" aria-label="Expiry"><div class="card-head"><h2 class="grow">Expiry</h2>${at !== null && html`<span class=${`badge ${isPast ? "bad" : at - now < 3600e3 ? "warn" : "good"}`}>${isPast ? "expired" : `in ${duration(at - now)}`}</span>`}</div>
    <div class="card-body stack">
      ${at === null ? html`<p class="muted small">It stays until it is removed.</p>` : html`<p class="small" data-expiry>${instant(at)} <span class="muted">(${relative(at, now)})</span></p>`}
      <${Field} label="Expires at" hint="Your local time. Empty means never.">${(/** @type {string} */ id) => html`<input id=${id} class="input" type="datetime-local" step="1" value=${at === null ? "" : localInput(at)} onChange=${(/** @type {any} */ event) => { const text = valueOf(event); change(text ? new Date(text).getTime() : null); }} />`}<//>
      <div class="row">${AHEAD.map(([ms, label]) => html`<button class="button slim" onClick=${() => change(Math.floor((Date.now() + Number(ms)) / 1000) * 1000)}>${label}</button>`)}${at !== null && html`<button class="button slim" onClick=${() => change(null)}>Never</button>`}</div>
    </div></section>`;
}

/** @param {any} props */
function SizeCard({ draft, base, isChanged, keyBytes, health }) {
  const [estimated, isExact] = draftSize(draft);
  const bytes = isChanged || !base ? estimated : base.bytes;
  const limits = [
    ["Store", health?.store?.valueBytesMax ?? 1048576],
    ["Deno", 65536],
    ["EdgeKV", 262144],
    ["Kopano", 16384],
  ];
  return html`<section class="card" aria-label="Size"><div class="card-head"><h2 class="grow">Size</h2><span class="small muted">${isExact || !isChanged ? "" : "about "}${size(bytes)}</span></div>
    <div class="card-body meters">${limits.map(([name, limit]) => html`<${Meter} name=${name} bytes=${bytes} limit=${limit} />`)}${keyBytes !== undefined && html`<${Meter} name="Key" bytes=${keyBytes} limit=${2048} />`}</div></section>`;
}

/** @param {{ name: string, bytes: number, limit: number }} props */
function Meter({ name, bytes, limit }) {
  const share = Math.min(1, bytes / limit);
  return html`<div class="meter"><span>${name}</span><span class=${`bar ${bytes > limit ? "over" : share > 0.8 ? "near" : ""}`} role="meter" aria-label=${`${name}: ${size(bytes)} of ${size(limit)}`} aria-valuemin="0" aria-valuemax=${limit} aria-valuenow=${Math.min(bytes, limit)}><span style=${{ width: `${Math.max(1, share * 100)}%` }}></span></span><span class="muted nowrap">${bytes > limit ? "over " : ""}${size(limit)}</span></div>`;
}

/** @param {any} props */
function NewEntry({ keyspace, prefix, health }) {
  const [space, setSpace] = useState(keyspace);
  const [text, setText] = useState(prefix.length ? keyText(prefix).replace(/\]$/, ', ""]') : "");
  const [encoding, setEncoding] = useState("json");
  const [draft, setDraft] = useState(newDraft("json"));
  const [expiresAt, setExpiresAt] = useState(/** @type {number | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const parsed = parseKey(text);
  const key = "key" in parsed ? parsed.key : [];
  const wrong = "error" in parsed ? parsed.error : null;
  const valueWrong = draftFault(draft);
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!key.length) return setError(new Error("Name the key first."));
    setBusy(true);
    setError(null);
    try {
      await put("/entry", { keyspace: space.trim(), key: JSON.parse(keyJson(key)), versionstamp: null, expiresAt, value: draftBody(draft) });
      toast("Saved.");
      go(["entry", space.trim()], { key: keyJson(key) });
    } catch (failure) {
      setError(failure instanceof ApiFailure && failure.status === 409 ? new Error("This key holds an entry already. Open it to change it.") : failure);
      setBusy(false);
    }
    return undefined;
  };
  const keyDown = (/** @type {any} */ event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    if (!busy && !wrong && !valueWrong) event.currentTarget.requestSubmit();
  };
  return html`
    <${PageHead} title="New entry" text="It is written only if the key holds nothing yet." />
    <form class="split" onSubmit=${save} onKeyDown=${keyDown}>
      <div class="card">
        <div class="card-body stack">
          <${Field} label="Keyspace" hint="A name that is not there yet comes into being.">${(/** @type {string} */ id) => html`<input id=${id} class="input" value=${space} onInput=${(/** @type {any} */ event) => setSpace(valueOf(event))} />`}<//>
          <${Field} label="Key" error=${wrong} hint=${html`<code>users/john</code> for text parts, or typed parts: <code>["users", 1, 12n, true, 0xff]</code>`}>${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" value=${text} onInput=${(/** @type {any} */ event) => setText(valueOf(event))} autofocus />`}<//>
          ${key.length > 0 && html`<div><${KeyParts} parts=${key} /></div>`}
          <div class="stack tight"><span class="label">Type</span><${Segments} label="Type of the value" value=${encoding} choose=${(/** @type {string} */ value) => { setEncoding(value); setDraft(newDraft(value)); }} options=${[["json", "JSON"], ["v8", "JavaScript"], ["u64", "u64"], ["bytes", "Bytes"]]} /></div>
          <${ValueEditor} key=${encoding} draft=${draft} change=${setDraft} />
          ${error && html`<${Failed} error=${error} />`}
        </div>
        <div class="sticky-save"><span class="grow error-text">${valueWrong}</span><a class="button" href=${href(["browse", keyspace])}>Cancel</a><button class="button primary" disabled=${busy || Boolean(wrong) || Boolean(valueWrong)}>Save</button></div>
      </div>
      <div class="stack"><${ExpiryCard} at=${expiresAt} change=${setExpiresAt} /><${SizeCard} draft=${draft} base=${null} isChanged health=${health} /></div>
    </form>`;
}
