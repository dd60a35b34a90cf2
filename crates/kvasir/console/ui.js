// What every page is made of: headings, notes, empty states, dialogs, toasts, key labels.
// @ts-check
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Icon } from "./icons.js";
import { keyText, partClass, partLabel } from "./keys.js";

/** @typedef {import("./keys.js").Part} Part */

/** @param {{ title: any, children?: any, text?: any }} props */
export function PageHead({ title, text, children }) {
  return html`<header class="page-head">
    <div><h1 tabindex="-1" id="page-title">${title}</h1>${text && html`<p>${text}</p>`}</div>
    ${children && html`<div class="row">${children}</div>`}
  </header>`;
}

/** @param {{ kind?: string, children?: any }} props */
export function Note({ kind = "", children }) {
  const icon = kind === "good" ? "check" : kind === "" ? "info" : "warn";
  return html`<div class=${`note ${kind}`} role=${kind === "bad" ? "alert" : "status"}><${Icon} name=${icon} /><div class="grow break">${children}</div></div>`;
}

/** @param {{ icon: string, title: any, children?: any }} props */
export function Empty({ icon, title, children }) {
  return html`<div class="empty"><${Icon} name=${icon} /><h2>${title}</h2>${children}</div>`;
}

/** Lines where something will be, of about its size. @param {{ lines?: number }} props */
export function Skeleton({ lines = 5 }) {
  return html`<div class="card-body stack" role="status"><span class="sr">Loading</span>
    ${Array.from({ length: lines }, (_, at) => html`<span class="skeleton" style=${{ width: `${90 - ((at * 23) % 50)}%` }} />`)}
  </div>`;
}

/** @param {{ error: any, retry?: () => void }} props */
export function Failed({ error, retry }) {
  return html`<${Note} kind="bad">
    <div class="row"><span class="grow">${error?.message ?? String(error)}</span>
    ${retry && html`<button class="button slim" onClick=${retry}>Try again</button>`}</div>
  <//>`;
}

/** A key as labelled parts. @param {{ parts: Part[], oneLine?: boolean }} props */
export function KeyParts({ parts, oneLine = false }) {
  return html`<span class=${`key${oneLine ? " one-line" : ""}`} title=${oneLine ? keyText(parts) : undefined}>
    ${parts.map((part) => html`<span class=${`part ${partClass(part)}`}>${part.type === "string" && part.value === "" ? html`<i>empty</i>` : partLabel(part)}</span>`)}
    ${parts.length === 0 && html`<span class="muted">(no parts)</span>`}
  </span>`;
}

/** Loads something and again when `keys` change. @template T @param {(signal: AbortSignal) => Promise<T>} load @param {any[]} keys */
export function useLoaded(load, keys) {
  const [state, setState] = useState(/** @type {{ value: T | null, error: any, loading: boolean }} */ ({ value: null, error: null, loading: true }));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    setState((was) => ({ ...was, loading: true, error: null }));
    load(abort.signal).then(
      (value) => !abort.signal.aborted && setState({ value, error: null, loading: false }),
      (error) => !abort.signal.aborted && setState({ value: null, error, loading: false }),
    );
    return () => abort.abort();
  }, [...keys, turn]);
  return { ...state, reload: () => setTurn((was) => was + 1), set: (/** @type {T} */ value) => setState({ value, error: null, loading: false }) };
}

/** The time, moving once a second. */
export function useNow(every = 1000) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

const FOCUSABLE = 'button:not(:disabled), [href], input:not(:disabled), select:not(:disabled), textarea:not(:disabled), [tabindex="0"]';

/**
 * A dialog that keeps the focus inside and gives it back.
 *
 * @param {{ title: any, close: () => void, foot?: any, wide?: boolean, children?: any }} props
 */
export function Dialog({ title, close, foot, wide = false, children }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const id = useRef(`dialog-${Math.random().toString(36).slice(2)}`).current;
  useLayoutEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    const element = box.current;
    const first = element?.querySelector("[data-first]") ?? element?.querySelector(".dialog-body input, .dialog-body select, .dialog-body textarea") ?? element?.querySelector("button");
    /** @type {HTMLElement | null | undefined} */ (first)?.focus();
    return () => before?.focus?.();
  }, []);
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key !== "Tab" || !box.current) return;
    const all = /** @type {HTMLElement[]} */ ([...box.current.querySelectorAll(FOCUSABLE)]);
    const [first, last] = [all[0], all[all.length - 1]];
    if (event.shiftKey && document.activeElement === first) {
      event.preventDefault();
      last?.focus();
    } else if (!event.shiftKey && document.activeElement === last) {
      event.preventDefault();
      first?.focus();
    }
  };
  return html`<div class="veil" onMouseDown=${(/** @type {any} */ event) => event.target === event.currentTarget && close()}>
    <div class=${`dialog${wide ? " wide" : ""}`} role="dialog" aria-modal="true" aria-labelledby=${id} ref=${box} onKeyDown=${key}>
      <div class="dialog-head"><h2 class="grow" id=${id}>${title}</h2><button class="button ghost icon" aria-label="Close" onClick=${close}><${Icon} name="close" /></button></div>
      <div class="dialog-body">${children}</div>
      ${foot && html`<div class="dialog-foot">${foot}</div>`}
    </div>
  </div>`;
}

/**
 * Asks before something that cannot be undone.
 *
 * @param {{ title: string, text: any, verb: string, act: () => Promise<any>, close: () => void }} props
 */
export function Confirm({ title, text, verb, act, close }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {any} */ (null));
  const go = async () => {
    setBusy(true);
    try {
      await act();
      close();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const foot = html`<button class="button" onClick=${close} data-first>Cancel</button><button class="button danger primary" disabled=${busy} onClick=${go}>${verb}</button>`;
  return html`<${Dialog} title=${title} close=${close} foot=${foot}><div class="break">${text}</div>${error && html`<${Failed} error=${error} />`}<//>`;
}

/** @type {((toast: { kind: string, text: string }) => void) | null} */
let showToast = null;

/** Tells of something that happened. @param {string} text @param {"good" | "bad"} [kind] */
export function toast(text, kind = "good") {
  showToast?.({ kind, text });
}

export function Toasts() {
  const [toasts, setToasts] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    showToast = (one) => {
      const id = Math.random();
      setToasts((was) => [...was.slice(-3), { ...one, id }]);
      setTimeout(() => setToasts((was) => was.filter((other) => other.id !== id)), one.kind === "bad" ? 9000 : 4000);
    };
    return () => {
      showToast = null;
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.map((one) => html`<div key=${one.id} class=${`toast ${one.kind}`}><${Icon} name=${one.kind === "good" ? "check" : "warn"} /><span class="break">${one.text}</span></div>`)}
  </div>`;
}

/** Copies text; where the clipboard is closed the text stays to be selected. @param {string} text @param {string} [what] */
export async function copy(text, what = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
    toast(what);
  } catch {
    toast("The browser does not let this page copy. Select the text instead.", "bad");
  }
}

/** @param {{ text: string, label?: string, slim?: boolean }} props */
export function CopyButton({ text, label = "Copy", slim = true }) {
  return html`<button class=${`button ${slim ? "slim" : ""}`} onClick=${() => copy(text)}><${Icon} name="copy" />${label}</button>`;
}

/** A secret that is shown once. @param {{ text: string, label?: string }} props */
export function Secret({ text, label = "Secret" }) {
  return html`<div class="secret"><code tabindex="0" aria-label=${label}>${text}</code><button class="button" onClick=${() => copy(text)}><${Icon} name="copy" />Copy</button></div>`;
}

/**
 * One of several choices, as buttons.
 *
 * @param {{ label: string, value: string, choose: (value: string) => void, options: [string, any][] }} props
 */
export function Segments({ label, value, choose, options }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(([name, text]) => html`<button type="button" aria-pressed=${value === name ? "true" : "false"} onClick=${() => choose(name)}>${text}</button>`)}
  </div>`;
}

let fields = 0;

/** A labelled control; `children` gets the id for it. @param {{ label: string, hint?: any, error?: any, children: (id: string) => any }} props */
export function Field({ label, hint, error, children }) {
  const id = useRef(`field-${(fields += 1)}`).current;
  return html`<div class="field"><label for=${id}>${label}</label>${children(id)}${error ? html`<span class="error-text" role="alert">${error}</span>` : hint && html`<span class="hint">${hint}</span>`}</div>`;
}

/** @param {any} event */
export const valueOf = (event) => event.currentTarget.value;
