// Looking around: keyspaces, then a tree by key parts or a flat list, a page at a time.
// @ts-check
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { count, relative, size } from "./format.js";
import { Icon } from "./icons.js";
import { keyFromJson, keyJson, keyText, parseKey, partClass, partLabel } from "./keys.js";
import { go, href } from "./route.js";
import { useVirtual } from "./virtual.js";
import { CopyButton, Empty, Failed, KeyParts, PageHead, Segments, Skeleton, useLoaded, useNow, valueOf } from "./ui.js";

/** Rows of a page. */
const PAGE = 200;

/** Pages that are kept in memory. Those further away are read again by their cursor. */
const PAGES_KEPT = 30;

const EXPIRES = [
  ["", "Any expiry"],
  ["3600", "Expires within an hour"],
  ["86400", "Expires within a day"],
  ["604800", "Expires within a week"],
  ["2592000", "Expires within 30 days"],
];

/** @param {{ route: import("./route.js").Route }} props */
export function Browse({ route }) {
  const spaces = useLoaded((signal) => get("/keyspaces", {}, { signal }), []);
  const names = spaces.value?.keyspaces.map((/** @type {any} */ one) => one.name) ?? [];
  const asked = route.path[1];
  const keyspace = asked ?? (names.includes("default") ? "default" : names[0]);
  if (spaces.error) return html`<${PageHead} title="Browse" /><${Failed} error=${spaces.error} retry=${spaces.reload} />`;
  if (!spaces.value) return html`<${PageHead} title="Browse" text="All data by key." /><div class="card"><${Skeleton} lines=${8} /></div>`;
  if (!keyspace) return html`<${PageHead} title="Browse" text="All data by key." /><div class="card"><${NothingYet} /></div>`;
  const shown = names.includes(keyspace) ? names : [...names, keyspace];
  return html`
    <${PageHead} title="Browse" text="All data by key, whichever API wrote it.">
      <a class="button primary" href=${href(["entry", keyspace], { new: 1, prefix: route.query.prefix })}><${Icon} name="plus" />New entry</a>
    <//>
    <nav class="space-tabs" aria-label="Keyspaces">
      ${shown.map((/** @type {string} */ name) => html`<a class=${`button slim ${name === keyspace ? "on" : ""}`} aria-current=${name === keyspace ? "true" : undefined} href=${href(["browse", name])}>${name}</a>`)}
    </nav>
    <${Place} key=${keyspace} keyspace=${keyspace} query=${route.query} />`;
}

function NothingYet() {
  const command = `curl -X PUT ${location.origin}/kv/hello -H 'Content-Type: application/json' -d '{"value": "world"}'`;
  return html`<${Empty} icon="browse" title="Nothing is stored yet">
    <p>Write something with any of the APIs and it appears here. To try it out:</p>
    <pre class="code wrap">${command}</pre>
    <div class="row"><${CopyButton} text=${command} slim=${false} /><a class="button primary" href=${href(["entry", "default"], { new: 1 })}>New entry</a></div>
  <//>`;
}

/** @param {{ keyspace: string, query: Record<string, string> }} props */
function Place({ keyspace, query }) {
  const prefix = keyFromJson(query.prefix ?? "[]");
  const text = query.text ?? "";
  const mode = query.mode === "list" || query.contains || query.expires ? "list" : "tree";
  const delimiter = query.delimiter ?? "";
  const [find, setFind] = useState(query.contains ?? "");
  const begin = query.from ? keyFromJson(query.from) : [];
  const [start, setStart] = useState(begin.length ? keyText(begin) : "");
  const started = parseKey(start);
  const startAt = (/** @type {any} */ event) => {
    event.preventDefault();
    if ("key" in started) to({ from: started.key.length ? keyJson(started.key) : "", mode: "list" });
  };
  const to = (/** @type {Record<string, any>} */ changed) => go(["browse", keyspace], { ...query, ...changed });
  // What was typed goes into the address after a pause; only an address from elsewhere comes back.
  const sent = useRef(query.contains ?? "");
  useEffect(() => {
    if ((query.contains ?? "") === sent.current) return;
    sent.current = query.contains ?? "";
    setFind(sent.current);
  }, [query.contains]);
  useEffect(() => {
    if (find === sent.current || find.trim().startsWith("[")) return undefined;
    const timer = setTimeout(() => {
      sent.current = find;
      go(["browse", keyspace], { ...query, contains: find, mode: "list" }, true);
    }, 250);
    return () => clearTimeout(timer);
  }, [find]);
  const search = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      /** @type {HTMLElement | null} */ (document.querySelector("[role=listbox]"))?.focus();
    }
    if (event.key !== "Enter" || !find.trim().startsWith("[")) return;
    const parsed = parseKey(find);
    if ("key" in parsed) go(["entry", keyspace], { key: keyJson(parsed.key) });
  };
  return html`<section class="card" aria-label=${`Keys of ${keyspace}`}>
    <div class="toolbar">
      <div class="search"><${Icon} name="search" /><input class="input" data-search type="search" aria-label="Find keys" placeholder='Find keys, or open one: ["users", 1]' value=${find} onInput=${(/** @type {any} */ event) => setFind(valueOf(event))} onKeyDown=${search} /></div>
      <${Segments} label="View" value=${mode} choose=${(/** @type {string} */ value) => to({ mode: value, contains: "", expires: "", from: "", order: "" })} options=${[["tree", "Tree"], ["list", "List"]]} />
      ${mode === "tree" && html`<label class="check"><span class="small muted">Delimiter</span><input class="input mono" style=${{ width: "64px" }} aria-label="Delimiter inside text parts" placeholder="none" maxlength="8" value=${delimiter} onChange=${(/** @type {any} */ event) => to({ delimiter: valueOf(event), text: "" })} /></label>`}
      ${mode === "list" && html`<form class="start" onSubmit=${startAt}><input class="input mono" aria-label="Begin at the key" aria-invalid=${"error" in started ? "true" : undefined} title=${"error" in started ? started.error : "A key at which the list begins, or the next one in its order. Enter goes there."} placeholder=${`Begin at ${prefix.length ? keyText([...prefix, { type: "string", value: "…" }]) : "a key"}`} spellcheck="false" value=${start} onInput=${(/** @type {any} */ event) => setStart(valueOf(event))} /></form>
      <select class="select" aria-label="Order" value=${query.order ?? ""} onChange=${(/** @type {any} */ event) => to({ order: valueOf(event) })}>${[["", "First to last"], ["last", "Last to first"]].map(([value, label]) => html`<option value=${value} selected=${value === (query.order ?? "")}>${label}</option>`)}</select>`}
      <select class="select" aria-label="Expiry" value=${query.expires ?? ""} onChange=${(/** @type {any} */ event) => to({ expires: valueOf(event), mode: valueOf(event) ? "list" : mode })}>
        ${EXPIRES.map(([seconds, label]) => html`<option value=${seconds} selected=${seconds === (query.expires ?? "")}>${label}</option>`)}
      </select>
    </div>
    <div class="card-head"><${Crumbs} keyspace=${keyspace} query=${query} prefix=${prefix} text=${text} /></div>
    <${Rows} key=${JSON.stringify([mode, delimiter, query.prefix, text, query.contains, query.expires, query.from, query.order])} keyspace=${keyspace} prefix=${prefix} text=${text} mode=${mode} delimiter=${delimiter} contains=${query.contains ?? ""} expires=${query.expires ?? ""} from=${query.from ?? ""} order=${query.order ?? ""} query=${query} />
  </section>`;
}

/** @param {{ keyspace: string, query: Record<string, string>, prefix: import("./keys.js").Part[], text: string }} props */
function Crumbs({ keyspace, query, prefix, text }) {
  const keep = { mode: query.mode, delimiter: query.delimiter };
  return html`<nav class="crumbs" aria-label="Place">
    <a href=${href(["browse", keyspace], keep)}>${keyspace}</a>
    ${prefix.map((part, at) => html`<span class="sep" aria-hidden="true">/</span><a class="mono" href=${href(["browse", keyspace], { ...keep, prefix: keyJson(prefix.slice(0, at + 1)) })}><span class=${`part ${partClass(part)}`}>${partLabel(part)}</span></a>`)}
    ${text && html`<span class="sep" aria-hidden="true">/</span><span class="part mono">${text}…</span>`}
    ${(prefix.length > 0 || text) && html`<${CopyButton} text=${JSON.stringify(prefix.map((part) => part.value))} label="Copy prefix" />`}
  </nav>`;
}

/**
 * A page with its place in the list.
 *
 * @typedef {{ cursor: string, rows: any[] | null, length: number }} Loaded
 */

/** @param {any} props */
function Rows({ keyspace, prefix, text, mode, delimiter, contains, expires, from, order, query }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [state, setState] = useState({ pages: /** @type {Loaded[]} */ ([]), next: /** @type {string | null} */ (""), busy: false, error: /** @type {any} */ (null), examined: 0 });
  const [height, setHeight] = useState(480);
  const [selected, setSelected] = useState(0);
  const busy = useRef(false);
  const now = useNow(10000);

  const ask = async (/** @type {string} */ cursor) => {
    const answer = await get("/browse", {
      keyspace,
      prefix: prefix.length ? keyJson(prefix) : undefined,
      text,
      tree: mode === "tree" ? "true" : undefined,
      delimiter: mode === "tree" ? delimiter : undefined,
      contains: mode === "list" ? contains : undefined,
      expiresWithinSeconds: mode === "list" ? expires : undefined,
      from: mode === "list" ? from : undefined,
      reverse: mode === "list" && order === "last" ? "true" : undefined,
      cursor,
      limit: PAGE,
    });
    return { ...answer, rows: answer.entries ?? answer.nodes.flatMap(apart) };
  };
  const more = async () => {
    if (busy.current || state.next === null) return;
    busy.current = true;
    setState((was) => ({ ...was, busy: true, error: null }));
    try {
      const answer = await ask(state.next);
      const rows = answer.rows;
      setState((was) => ({
        pages: [...was.pages, { cursor: was.next ?? "", rows, length: rows.length }],
        next: answer.cursor,
        busy: false,
        error: null,
        examined: was.examined + (answer.examined ?? rows.length),
      }));
    } catch (error) {
      setState((was) => ({ ...was, busy: false, error }));
    } finally {
      busy.current = false;
    }
  };
  const rowHeight = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10) || 40;
  const total = state.pages.reduce((sum, page) => sum + page.length, 0);
  const place = useVirtual(box, { rows: total, rowHeight, height });
  const firstRow = Math.max(0, Math.floor(place.top / rowHeight) - 8);
  const lastRow = Math.min(total, Math.ceil((place.top + height) / rowHeight) + 8);

  useEffect(() => {
    more();
  }, []);
  useEffect(() => {
    // A filter may leave out whole pages; go on until the view is full.
    if (!state.busy && !state.error && state.next !== null && state.pages.length && lastRow >= total - 40) more();
  }, [lastRow, total, state.busy]);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const measure = () => setHeight(element.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [state.pages.length > 0]);

  // Which pages are in view; those far away give up their rows, those in view get theirs again.
  /** @type {{ row: any, at: number }[]} */
  const visible = [];
  let start = 0;
  state.pages.forEach((page, index) => {
    const end = start + page.length;
    if (end > firstRow && start < lastRow) {
      if (page.rows) {
        for (let at = Math.max(start, firstRow); at < Math.min(end, lastRow); at += 1) visible.push({ row: page.rows[at - start], at });
      } else if (!busy.current) {
        busy.current = true;
        ask(page.cursor).then(
          (answer) => {
            busy.current = false;
            setState((was) => ({ ...was, pages: was.pages.map((one, number) => (number === index ? { ...one, rows: answer.rows } : one)) }));
          },
          (error) => {
            busy.current = false;
            setState((was) => ({ ...was, error }));
          },
        );
      }
    }
    start = end;
  });
  useEffect(() => {
    if (state.pages.filter((page) => page.rows).length <= PAGES_KEPT) return;
    const here = Math.floor(firstRow / PAGE);
    setState((was) => ({ ...was, pages: was.pages.map((page, at) => (page.rows && Math.abs(at - here) > PAGES_KEPT / 2 ? { ...page, rows: null } : page)) }));
  }, [state.pages.length, firstRow]);

  const rowAt = (/** @type {number} */ row) => {
    let begin = 0;
    for (const page of state.pages) {
      if (row < begin + page.length) return page.rows?.[row - begin];
      begin += page.length;
    }
    return undefined;
  };
  const linkOf = (/** @type {any} */ row) => {
    if (mode === "list") return href(["entry", keyspace], { key: keyJson(row.key) });
    if (row.text !== null && row.text !== undefined) return href(["browse", keyspace], { ...query, text: row.text });
    if (row.hasChildren) return href(["browse", keyspace], { ...query, text: "", prefix: keyJson([...prefix, row.part]) });
    return href(["entry", keyspace], { key: keyJson(row.entry.key) });
  };
  const open = (/** @type {any} */ row) => {
    if (row) location.hash = linkOf(row);
  };
  const select = (/** @type {number} */ row) => {
    const at = Math.max(0, Math.min(total - 1, row));
    setSelected(at);
    place.show(at);
  };
  const up = () => {
    const keep = { mode: query.mode, delimiter };
    if (text) go(["browse", keyspace], { ...keep, prefix: query.prefix });
    else if (prefix.length) go(["browse", keyspace], { ...keep, prefix: prefix.length > 1 ? keyJson(prefix.slice(0, -1)) : "" });
  };
  const keyDown = (/** @type {KeyboardEvent} */ event) => {
    const screen = Math.max(1, Math.floor(height / rowHeight) - 1);
    const moves = { ArrowDown: selected + 1, ArrowUp: selected - 1, PageDown: selected + screen, PageUp: selected - screen, Home: 0, End: total - 1 };
    const move = moves[/** @type {"Home"} */ (event.key)];
    if (move !== undefined) select(move);
    else if (event.key === "Enter" || event.key === "ArrowRight") open(rowAt(selected));
    else if (event.key === "Backspace" || event.key === "ArrowLeft") up();
    else return;
    event.preventDefault();
  };

  if (!state.pages.length && state.error) return html`<div class="card-body"><${Failed} error=${state.error} retry=${more} /></div>`;
  if (!state.pages.length) return html`<${Skeleton} lines=${8} />`;
  const isDone = state.next === null;
  if (total === 0 && isDone) {
    const isFiltered = contains || expires;
    return html`<${Empty} icon="search" title=${isFiltered ? "No key matches" : "Nothing below this prefix"}>
      <p>${isFiltered ? `${count(state.examined)} entries were looked at.` : "Entries appear here as soon as something is written."}</p>
      ${isFiltered ? html`<a class="button" href=${href(["browse", keyspace], { prefix: query.prefix, mode: "list" })}>Show all</a>` : html`<a class="button" href=${href(["entry", keyspace], { new: 1, prefix: query.prefix })}><${Icon} name="plus" />New entry</a>`}
    <//>`;
  }
  return html`
    <div class="list-head" aria-hidden="true"><span>Key</span><span>Value</span><span>Type</span><span class="num">Size</span><span>Expires</span></div>
    <div class=${`list ${isDone && total <= 12 ? "short" : ""}`} style=${isDone && total <= 12 ? { height: `${total * rowHeight}px`, minHeight: 0 } : {}} role="listbox" aria-label="Keys" tabindex="0" data-list aria-activedescendant=${visible.some(({ at }) => at === selected) ? `row-${selected}` : undefined} ref=${box} onScroll=${place.onScroll} onKeyDown=${keyDown}>
      <div class="list-space" role="presentation" style=${{ height: `${place.space}px` }}>
        ${visible.map(({ row, at }) => html`<div key=${at} id=${`row-${at}`} role="option" aria-selected=${at === selected ? "true" : "false"} aria-setsize=${isDone ? total : -1} aria-posinset=${at + 1} class=${`list-row${at === selected ? " selected" : ""}`} style=${{ top: `${place.topOf(at)}px` }} onClick=${() => { setSelected(at); open(row); }}>
          ${mode === "list" ? html`<${EntryCells} entry=${row} name=${html`<${KeyParts} parts=${row.key.slice(prefix.length)} oneLine />`} now=${now} />` : html`<${NodeCells} node=${row} now=${now} />`}
        </div>`)}
      </div>
    </div>
    <div class="list-foot" role="status">
      ${state.error ? html`<span class="error-text grow">${state.error.message}</span><button class="button slim" onClick=${more}>Try again</button>` : html`<span class="grow">${count(total)} ${isDone ? (total === 1 ? "row" : "rows") : "rows so far, scroll for more"}${(contains || expires) && ` of ${count(state.examined)} entries`}</span>${state.busy && html`<span class="spin"></span>`}`}
    </div>`;
}

/** A node that is an entry and has longer keys is two rows. @param {any} node @returns {any[]} */
function apart(node) {
  if (!node.entry || !node.hasChildren) return [node];
  return [
    { ...node, hasChildren: false },
    { ...node, entry: null },
  ];
}

/** @param {{ node: any, now: number }} props */
function NodeCells({ node, now }) {
  const label = node.text ?? null;
  const name = html`<span class="node-name"><${Icon} name=${node.hasChildren ? "folder" : "file"} /><span class="key one-line">${label !== null ? html`<span class="part">${label}</span><span class="muted">…</span>` : html`<span class=${`part ${partClass(node.part)}`}>${node.part.value === "" ? html`<i>empty</i>` : partLabel(node.part)}</span>`}</span></span>`;
  if (!node.entry) return html`${name}<span class="preview"></span><span class="enc"></span><span class="size"></span><span class="exp"></span>`;
  return html`<${EntryCells} entry=${node.entry} name=${name} now=${now} />`;
}

/** @param {{ entry: any, name: any, now: number }} props */
function EntryCells({ entry, name, now }) {
  return html`<span class="grow">${name}</span>
    <span class="preview">${entry.preview}</span>
    <span class="enc"><span class="badge">${entry.encoding}</span></span>
    <span class="size num small muted">${size(entry.bytes)}</span>
    <span class="exp small muted nowrap">${entry.expiresAt === null ? "" : relative(entry.expiresAt, now)}</span>`;
}
