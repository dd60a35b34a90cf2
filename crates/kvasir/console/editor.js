// Editing a value without losing its type.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { fromBase64, fromHex, hex, toBase64, utf8 } from "./format.js";
import { Icon } from "./icons.js";
import { Field, Note, Segments, valueOf } from "./ui.js";
import { KINDS, estimate, fault, formatJson, hexLines, jsonFault, madeOf, shown } from "./values.js";

/** @typedef {import("./values.js").Typed} Typed */

/**
 * A value being edited: the encoding, and what belongs to it.
 *
 * @typedef {{ encoding: string, text?: string, typed?: Typed, bytes?: Uint8Array, exact?: boolean }} Draft
 */

/** Children that are shown at once. */
const CHILDREN_SHOWN = 100;

/** @param {any} entry @returns {Draft} */
export function draftOf(entry) {
  switch (entry.encoding) {
    case "json":
      return { encoding: "json", text: entry.text ?? "" };
    case "bytes":
      return { encoding: "bytes", bytes: fromBase64(entry.raw) };
    case "u64":
      return { encoding: "u64", typed: entry.typed, bytes: fromBase64(entry.raw), exact: entry.exact };
    default:
      return { encoding: "v8", typed: entry.typed, bytes: fromBase64(entry.raw), exact: entry.exact };
  }
}

/** A new value. @param {string} encoding @returns {Draft} */
export function newDraft(encoding) {
  switch (encoding) {
    case "json":
      return { encoding, text: "{}" };
    case "bytes":
      return { encoding, bytes: new Uint8Array() };
    case "u64":
      return { encoding, typed: { type: "KvU64", value: "0" }, exact: true };
    default:
      return { encoding: "v8", typed: { type: "json_object", value: {} }, exact: true };
  }
}

/** What is wrong with a draft. @param {Draft} draft @returns {string | null} */
export function draftFault(draft) {
  if (draft.encoding === "json") return jsonFault(draft.text ?? "");
  if (draft.typed && draft.exact) {
    const top = draft.encoding === "v8" && ["Uint8Array", "KvU64", "v8"].includes(draft.typed.type);
    return top ? "Bytes alone are stored with the encoding bytes, not as a V8 value." : fault(draft.typed);
  }
  return null;
}

/** A draft as the API takes it. @param {Draft} draft */
export function draftBody(draft) {
  if (draft.encoding === "json") return { encoding: "json", text: draft.text };
  if (draft.encoding === "bytes" || !draft.exact) return { encoding: draft.encoding, raw: toBase64(draft.bytes ?? new Uint8Array()) };
  return { encoding: draft.encoding, typed: draft.typed };
}

/** Size of a draft, and whether that is exact. @param {Draft} draft @returns {[number, boolean]} */
export function draftSize(draft) {
  if (draft.encoding === "json") return [new TextEncoder().encode(draft.text ?? "").length, true];
  if (draft.encoding === "u64") return [8, true];
  if (draft.encoding === "bytes" || !draft.exact) return [draft.bytes?.length ?? 0, true];
  return [draft.typed ? estimate(draft.typed) + 2 : 0, false];
}

/** A draft as lines for people. @param {Draft} draft */
export function draftText(draft) {
  if (draft.encoding === "json") return jsonFault(draft.text ?? "") ? draft.text ?? "" : formatJson(draft.text ?? "");
  if (draft.typed && draft.exact) return shown(draft.typed);
  return hexLines(draft.bytes ?? new Uint8Array());
}

/** @param {{ draft: Draft, change: (draft: Draft) => void }} props */
export function ValueEditor({ draft, change }) {
  if (draft.encoding === "json") return html`<${JsonEditor} draft=${draft} change=${change} />`;
  if (draft.encoding === "bytes") return html`<${BytesEditor} bytes=${draft.bytes ?? new Uint8Array()} change=${(/** @type {Uint8Array} */ bytes) => change({ ...draft, bytes })} />`;
  if (draft.encoding === "u64" && draft.exact) {
    const wrong = fault(/** @type {Typed} */ (draft.typed));
    return html`<${Field} label="Unsigned 64-bit integer" hint="0 to 18446744073709551615. Programs add to it with sum, min and max." error=${wrong}>
      ${(/** @type {string} */ id) => html`<input id=${id} class="input mono" inputmode="numeric" aria-invalid=${wrong ? "true" : "false"} value=${draft.typed?.value} onInput=${(/** @type {any} */ event) => change({ ...draft, typed: { type: "KvU64", value: valueOf(event).trim() } })} />`}
    <//>`;
  }
  if (!draft.exact) {
    return html`<div class="stack">
      <${Note} kind="warn"><strong>Some parts have no plain form.</strong> The value holds something that cannot be written back from what is shown: an object that is referred to twice, a hole, a host object, or damage. It is shown below and kept to the byte; it can be replaced byte by byte.<//>
      ${draft.typed && html`<pre class="code wrap scroll" tabindex="0" aria-label="The value as far as it can be shown">${shown(draft.typed)}</pre>`}
      <${BytesEditor} bytes=${draft.bytes ?? new Uint8Array()} change=${(/** @type {Uint8Array} */ bytes) => change({ ...draft, bytes })} onlyHex />
    </div>`;
  }
  return html`<div class="tree" role="group" aria-label="Value"><${Node} node=${draft.typed} path="value" depth=${0} change=${(/** @type {Typed} */ typed) => change({ ...draft, typed })} /></div>`;
}

/** @param {{ draft: Draft, change: (draft: Draft) => void }} props */
function JsonEditor({ draft, change }) {
  const text = draft.text ?? "";
  const wrong = jsonFault(text);
  return html`<div class="stack">
    <${Field} label="JSON" hint="Kept as you write it: digits, spaces and the order of members included." error=${wrong}>
      ${(/** @type {string} */ id) => html`<textarea id=${id} class="textarea tall" spellcheck="false" aria-invalid=${wrong ? "true" : "false"} value=${text} onInput=${(/** @type {any} */ event) => change({ ...draft, text: valueOf(event) })}></textarea>`}
    <//>
    <div class="row"><button class="button slim" disabled=${Boolean(wrong)} onClick=${() => change({ ...draft, text: formatJson(text) })}>Format</button></div>
  </div>`;
}

/** @param {{ bytes: Uint8Array, change: (bytes: Uint8Array) => void, onlyHex?: boolean }} props */
function BytesEditor({ bytes, change, onlyHex = false }) {
  const asText = onlyHex ? null : utf8(bytes);
  const [view, setView] = useState(asText !== null && bytes.length && !/[\u0000-\u0008\u000e-\u001f]/.test(asText) ? "text" : "hex");
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const digits = typed ?? hex(bytes).replace(/(..)(?=.)/g, "$1 ");
  const wrong = view === "hex" && fromHex(digits) === null ? "Write pairs of hexadecimal digits." : null;
  const inputHex = (/** @type {any} */ event) => {
    const text = valueOf(event);
    setTyped(text);
    const read = fromHex(text);
    if (read) change(read);
  };
  return html`<div class="stack">
    ${!onlyHex && html`<${Segments} label="Bytes as" value=${view} choose=${(/** @type {string} */ value) => { setView(value); setTyped(null); }} options=${[["text", "Text"], ["hex", "Hexadecimal"]]} />`}
    ${view === "text" && asText === null
      ? html`<${Note}>These bytes are not text in UTF-8. They can be edited as hexadecimal digits.<//>`
      : view === "text"
        ? html`<${Field} label="Bytes as text (UTF-8)">${(/** @type {string} */ id) => html`<textarea id=${id} class="textarea" spellcheck="false" value=${asText} onInput=${(/** @type {any} */ event) => change(new TextEncoder().encode(valueOf(event)))}></textarea>`}<//>`
        : html`<${Field} label="Bytes as hexadecimal digits" error=${wrong} hint=${`${bytes.length} bytes`}>${(/** @type {string} */ id) => html`<textarea id=${id} class="textarea" spellcheck="false" aria-invalid=${wrong ? "true" : "false"} value=${digits} onInput=${inputHex}></textarea>`}<//>`}
  </div>`;
}

const CONTAINERS = ["json_array", "json_object", "json_map", "json_set"];

/** @param {Typed} node */
function summary(node) {
  switch (node.type) {
    case "json_array":
      return `array of ${node.value.length}`;
    case "json_set":
      return `Set of ${node.value.length}`;
    case "json_map":
      return `Map of ${node.value.length}`;
    default:
      return `object of ${Object.keys(node.value).length}`;
  }
}

/** @param {any} props */
function Node({ node, path, depth, change, name = null, drop = null }) {
  const [open, setOpen] = useState(depth < 3);
  const [limit, setLimit] = useState(CHILDREN_SHOWN);
  const isContainer = CONTAINERS.includes(node.type);
  const kinds = KINDS.some(([type]) => type === node.type) ? KINDS : [...KINDS, [node.type, node.type]];
  const allowed = depth === 0 ? kinds.filter(([type]) => type !== "Uint8Array") : kinds;
  const kind = html`<select class="select" aria-label=${`Type of ${path}`} value=${node.type} onChange=${(/** @type {any} */ event) => change(madeOf(valueOf(event), node))}>
    ${allowed.map(([type, label]) => html`<option value=${type} selected=${type === node.type}>${label}</option>`)}
  </select>`;
  const dropButton = drop && html`<button class="button ghost slim icon" aria-label=${`Remove ${path}`} title="Remove" onClick=${drop}><${Icon} name="close" /></button>`;
  if (!isContainer) return html`<div class="tnode"><span class="twist"></span>${name}${kind}<${Leaf} node=${node} path=${path} change=${change} />${dropButton}</div>`;
  const children = childrenOf(node, path, change);
  return html`
    <div class="tnode"><button class="twist" aria-label=${`${open ? "Fold" : "Unfold"} ${path}`} aria-expanded=${open ? "true" : "false"} onClick=${() => setOpen(!open)}><${Icon} name="right" /></button>${name}${kind}<span class="kind small">${summary(node)}</span>
      <button class="button ghost slim" aria-label=${`Add to ${path}`} onClick=${() => { change(added(node)); setOpen(true); setLimit(Infinity); }}><${Icon} name="plus" />Add</button>${dropButton}</div>
    ${open && html`<ul>${children.slice(0, limit).map((child) => html`<li key=${child.key}>${child.view(depth + 1)}</li>`)}
      ${children.length > limit && html`<li><button class="button slim" onClick=${() => setLimit(limit + 10 * CHILDREN_SHOWN)}>Show more of ${children.length - limit}</button></li>`}</ul>`}`;
}

/** @param {Typed} node @returns {Typed} */
function added(node) {
  const empty = { type: "string", value: "" };
  if (node.type === "json_object") {
    let name = "new";
    for (let at = 2; Object.hasOwn(node.value, name); at += 1) name = `new${at}`;
    return { ...node, value: { ...node.value, [name]: empty } };
  }
  return { ...node, value: [...node.value, node.type === "json_map" ? [{ type: "string", value: "" }, empty] : empty] };
}

/** @param {Typed} node @param {string} path @param {(node: Typed) => void} change @returns {{ key: any, view: (depth: number) => any }[]} */
function childrenOf(node, path, change) {
  if (node.type === "json_object") {
    const members = Object.entries(node.value);
    const replaced = (/** @type {number} */ at, /** @type {[string, Typed] | null} */ member) =>
      change({ ...node, value: Object.fromEntries(members.flatMap((one, place) => (place === at ? (member ? [member] : []) : [one]))) });
    return members.map(([name, value], at) => ({
      key: at,
      view: (depth) => html`<${Node} node=${value} depth=${depth} path=${`${path}.${name}`} change=${(/** @type {Typed} */ next) => replaced(at, [name, next])} drop=${() => replaced(at, null)}
        name=${html`<input class="input name" aria-label=${`Name of ${path}.${name}`} value=${name} onChange=${(/** @type {any} */ event) => { if (Object.hasOwn(node.value, valueOf(event))) event.currentTarget.value = name; else replaced(at, [valueOf(event), value]); }} />`} />`,
    }));
  }
  const list = node.value;
  const replaced = (/** @type {number} */ at, /** @type {any[]} */ by) => change({ ...node, value: [...list.slice(0, at), ...by, ...list.slice(at + 1)] });
  if (node.type === "json_map") {
    return list.map((/** @type {[Typed, Typed]} */ [key, value], /** @type {number} */ at) => ({
      key: at,
      view: (/** @type {number} */ depth) => html`
        <${Node} node=${key} depth=${depth} path=${`key ${at + 1} of ${path}`} change=${(/** @type {Typed} */ next) => replaced(at, [[next, value]])} drop=${() => replaced(at, [])} name=${html`<span class="kind small">key</span>`} />
        <${Node} node=${value} depth=${depth} path=${`value ${at + 1} of ${path}`} change=${(/** @type {Typed} */ next) => replaced(at, [[key, next]])} name=${html`<span class="kind small">value</span>`} />`,
    }));
  }
  return list.map((/** @type {Typed} */ value, /** @type {number} */ at) => ({
    key: at,
    view: (/** @type {number} */ depth) => html`<${Node} node=${value} depth=${depth} path=${`${path}[${at}]`} change=${(/** @type {Typed} */ next) => replaced(at, [next])} drop=${() => replaced(at, [])} name=${html`<span class="index small">${at}</span>`} />`,
  }));
}

/** @param {{ node: Typed, path: string, change: (node: Typed) => void }} props */
function Leaf({ node, path, change }) {
  const wrong = fault(node);
  const input = (/** @type {any} */ more) => html`<input class="input" spellcheck="false" aria-label=${`Value of ${path}`} aria-invalid=${wrong ? "true" : "false"} title=${wrong ?? undefined} ...${more} />`;
  switch (node.type) {
    case "string":
      return /\n/.test(node.value)
        ? html`<textarea class="input" rows=${Math.min(8, node.value.split("\n").length)} spellcheck="false" aria-label=${`Value of ${path}`} value=${node.value} onInput=${(/** @type {any} */ event) => change({ type: "string", value: valueOf(event) })}></textarea>`
        : input({ value: node.value, onInput: (/** @type {any} */ event) => change({ type: "string", value: valueOf(event) }) });
    case "number":
      return html`<${NumberInput} node=${node} path=${path} change=${change} />`;
    case "bigint":
      return input({ value: node.value, inputmode: "numeric", onInput: (/** @type {any} */ event) => change({ type: "bigint", value: valueOf(event).trim() }) });
    case "boolean":
      return html`<label class="check"><input type="checkbox" aria-label=${`Value of ${path}`} checked=${node.value} onChange=${(/** @type {any} */ event) => change({ type: "boolean", value: event.currentTarget.checked })} />${node.value ? "true" : "false"}</label>`;
    case "Date":
      return input({ value: node.value ?? "", placeholder: "invalid date", onInput: (/** @type {any} */ event) => change({ type: "Date", value: valueOf(event).trim() || null }) });
    case "RegExp":
      return input({ value: node.value, onInput: (/** @type {any} */ event) => change({ type: "RegExp", value: valueOf(event) }) });
    case "Uint8Array":
      return html`<${HexInput} node=${node} path=${path} change=${change} />`;
    case "null":
    case "undefined":
      return null;
    default:
      return html`<span class="kind small break" title="Shown and kept as it is">${shown(node).slice(0, 200)} <span class="badge">kept as it is</span></span>`;
  }
}

/** @param {any} props */
function NumberInput({ node, path, change }) {
  const [text, setText] = useState(Object.is(node.value, -0) ? "-0" : String(node.value));
  const read = (/** @type {string} */ typed) => (/^(NaN|-?Infinity|-0)$/.test(typed) ? typed : typed.trim() !== "" && Number.isFinite(Number(typed)) ? Number(typed) : null);
  const wrong = read(text) === null;
  return html`<input class="input" inputmode="decimal" aria-label=${`Value of ${path}`} aria-invalid=${wrong ? "true" : "false"} value=${text} onInput=${(/** @type {any} */ event) => { const typed = valueOf(event).trim(); setText(typed); const number = read(typed); change({ type: "number", value: number === null ? typed : number }); }} />`;
}

/** @param {any} props */
function HexInput({ node, path, change }) {
  const [text, setText] = useState(hex(fromBase64(node.value)));
  return html`<input class="input" spellcheck="false" placeholder="no bytes" aria-label=${`Value of ${path}, in hexadecimal digits`} aria-invalid=${fromHex(text) ? "false" : "true"} value=${text} onInput=${(/** @type {any} */ event) => { setText(valueOf(event)); const bytes = fromHex(valueOf(event)); if (bytes) change({ type: "Uint8Array", value: toBase64(bytes) }); }} />`;
}
