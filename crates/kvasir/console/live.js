// What changes below a prefix, while it happens.
// @ts-check
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get, listen } from "./api.js";
import { Diff } from "./diff.js";
import { clock, count } from "./format.js";
import { Icon } from "./icons.js";
import { keyJson, keyText, parseKey } from "./keys.js";
import { go, href } from "./route.js";
import { Empty, Field, KeyParts, Note, PageHead, useLoaded, valueOf } from "./ui.js";
import { entryText } from "./values.js";

/** Events that are kept. */
const EVENTS_MAX = 500;

/** Entries whose last value is kept, for differences. */
const KNOWN_MAX = 2000;

/** @param {any} props */
export function Live({ route }) {
  const spaces = useLoaded((signal) => get("/keyspaces", {}, { signal }), []);
  const names = spaces.value?.keyspaces.map((/** @type {any} */ one) => one.name) ?? [];
  const keyspace = route.query.keyspace || (names.includes("default") || !names.length ? "default" : names[0]);
  const [prefix, setPrefix] = useState(route.query.prefix ?? "");
  const [from, setFrom] = useState(route.query.from ?? "");
  const parsed = parseKey(prefix);
  const wrong = "error" in parsed ? parsed.error : null;
  const fromWrong = from && !/^[0-9a-f]{20}$/.test(from) ? "A versionstamp has 20 hexadecimal digits." : null;
  const apply = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!wrong && !fromWrong) go(["live"], { keyspace, prefix, from });
  };
  const shown = names.includes(keyspace) ? names : [...names, keyspace];
  const watched = parseKey(route.query.prefix ?? "");
  return html`
    <${PageHead} title="Live" text="Writes, removals and expiries as they happen, each with what changed." />
    <form class="card" onSubmit=${apply}><div class="card-body row top-align">
      <${Field} label="Keyspace">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${keyspace} onChange=${(/** @type {any} */ event) => go(["live"], { keyspace: valueOf(event), prefix, from })}>${shown.map((/** @type {string} */ name) => html`<option value=${name} selected=${name === keyspace}>${name}</option>`)}</select>`}<//>
      <div class="grow"><${Field} label="Prefix" error=${wrong} hint=${html`<code>users/john</code> or <code>["users", 1]</code>; empty for all`}>${(/** @type {string} */ id) => html`<input id=${id} data-search class="input mono" spellcheck="false" value=${prefix} onInput=${(/** @type {any} */ event) => setPrefix(valueOf(event))} />`}<//></div>
      <div class="grow"><${Field} label="From versionstamp" error=${fromWrong} hint="Also what was written after it; empty for now on">${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" value=${from} onInput=${(/** @type {any} */ event) => setFrom(valueOf(event).trim())} />`}<//></div>
      <div class="field"><span class="label" aria-hidden="true"> </span><button class="button primary" disabled=${Boolean(wrong || fromWrong)}>Watch</button></div>
    </div></form>
    <${Events} key=${JSON.stringify([keyspace, route.query.prefix, route.query.from])} keyspace=${keyspace} prefix=${"key" in watched ? watched.key : []} from=${route.query.from} />`;
}

/** @param {any} props */
function Events({ keyspace, prefix, from }) {
  const [state, setState] = useState("waiting");
  const [events, setEvents] = useState(/** @type {any[]} */ ([]));
  const [isPaused, setIsPaused] = useState(false);
  const [waiting, setWaiting] = useState(/** @type {any[]} */ ([]));
  const [total, setTotal] = useState(0);
  const [open, setOpen] = useState(/** @type {Set<number>} */ (new Set()));
  const known = useRef(/** @type {Map<string, string>} */ (new Map()));
  const paused = useRef(false);
  paused.current = isPaused;
  const next = useRef(0);
  useEffect(() => {
    const told = (/** @type {any} */ data) => {
      if (data.kind === "ready") return;
      const key = data.entry?.key ?? data.key ?? [];
      const name = keyText(key);
      const before = known.current.get(name);
      const after = data.kind === "gone" ? "" : entryText(data.entry);
      if (data.kind === "gone") known.current.delete(name);
      else if (data.kind !== "missed") {
        known.current.delete(name);
        known.current.set(name, after);
        const [oldest] = known.current.keys();
        if (known.current.size > KNOWN_MAX && oldest !== undefined) known.current.delete(oldest);
      }
      if (data.kind === "state") return;
      const event = { id: (next.current += 1), at: Date.now(), kind: data.kind, key, before, after, isNew: before === undefined };
      setTotal((was) => was + 1);
      const add = (/** @type {any[]} */ was) => [event, ...was].slice(0, EVENTS_MAX);
      if (paused.current) setWaiting(add);
      else setEvents(add);
    };
    return listen("/watch", { keyspace, prefix: prefix.length ? keyJson(prefix) : undefined, from, initial: from ? undefined : 500 }, { event: told, state: setState });
  }, []);
  const resume = () => {
    setEvents((was) => [...waiting, ...was].slice(0, EVENTS_MAX));
    setWaiting([]);
    setIsPaused(false);
  };
  const toggle = (/** @type {number} */ id) =>
    setOpen((was) => {
      const now = new Set(was);
      if (!now.delete(id)) now.add(id);
      return now;
    });
  const words = { change: "changed", gone: "removed", missed: "missed" };
  return html`<section class="card" aria-label="Events">
    <div class="card-head">
      <span class=${`live-dot ${state === "open" ? (isPaused ? "wait" : "on") : "wait"}`}></span>
      <span class="grow" role="status">${state === "open" ? (isPaused ? `Paused, ${count(waiting.length)} waiting` : `Watching ${keyspace}, ${count(total)} ${total === 1 ? "event" : "events"}`) : state === "waiting" ? "Connecting…" : "The server ended the watch."}</span>
      <button class="button slim" onClick=${() => { setEvents([]); setTotal(0); }}>Clear</button>
      ${isPaused ? html`<button class="button slim primary" onClick=${resume}><${Icon} name="play" />Go on</button>` : html`<button class="button slim" onClick=${() => setIsPaused(true)}><${Icon} name="pause" />Pause</button>`}
    </div>
    ${state === "closed" && html`<div class="card-body"><${Note} kind="warn">The watch ended: you were logged out, or too many watches are open. Load the page again.<//></div>`}
    ${events.length === 0 && html`<${Empty} icon="live" title="Nothing changed yet"><p>Write below this prefix with any program and it shows up at once.</p><//>`}
    <ol aria-label="Changes, newest first">${events.map((event) => html`<li key=${event.id} class="flash">
      <div class="event"><span class="small muted num nowrap">${clock(event.at)}</span>
        <span><span class=${`badge ${event.kind === "gone" ? "bad" : event.kind === "missed" ? "warn" : event.isNew ? "good" : "accent"}`}>${event.kind === "change" && event.isNew ? "written" : words[/** @type {"gone"} */ (event.kind)]}</span></span>
        ${event.kind === "missed" ? html`<span class="small">Changes came too fast to show them all. The latest values are in Browse.</span><span></span>` : html`<a class="key" href=${href(["entry", keyspace], { key: keyJson(event.key) })}><${KeyParts} parts=${event.key} oneLine /></a>
        <button class="button slim" aria-expanded=${open.has(event.id) ? "true" : "false"} onClick=${() => toggle(event.id)}>Difference</button>`}
      </div>
      ${open.has(event.id) && html`<div class="event-diff"><${Diff} before=${event.before ?? ""} after=${event.after} /></div>`}
    </li>`)}</ol>
  </section>`;
}
