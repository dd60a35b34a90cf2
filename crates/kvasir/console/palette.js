// The command palette, and what the keys do.
// @ts-check
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { Icon } from "./icons.js";
import { keyJson, parseKey } from "./keys.js";
import { go } from "./route.js";
import { PAGES } from "./pages.js";
import { valueOf } from "./ui.js";

/** @param {{ close: () => void, theme: (name: string) => void, logOut: (() => void) | null, help: () => void }} props */
export function Palette({ close, theme, logOut, help }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const [spaces, setSpaces] = useState(/** @type {string[]} */ ([]));
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  // Before anything is drawn: who types on at once must not type into the page behind.
  useLayoutEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    input.current?.focus();
    get("/keyspaces").then((found) => setSpaces(found.keyspaces.map((/** @type {any} */ one) => one.name)), () => {});
    return () => before?.focus?.();
  }, []);

  /** @type {{ icon: string, name: string, note?: string, act: () => void }[]} */
  const all = [
    ...PAGES.map((page) => ({ icon: page.icon, name: page.title, note: `g ${page.key}`, act: () => go([page.name]) })),
    ...spaces.map((name) => ({ icon: "folder", name: `Browse ${name}`, act: () => go(["browse", name]) })),
    { icon: "plus", name: "New entry", act: () => go(["entry", spaces.includes("default") || !spaces[0] ? "default" : spaces[0]], { new: 1 }) },
    { icon: "token", name: "New token", act: () => go(["tokens"], { new: 1 }) },
    { icon: "docs", name: "API reference", act: () => location.assign("docs") },
    { icon: "sun", name: "Theme: light", act: () => theme("light") },
    { icon: "moon", name: "Theme: dark", act: () => theme("dark") },
    { icon: "screen", name: "Theme: system", act: () => theme("system") },
    { icon: "info", name: "Keyboard shortcuts", note: "?", act: help },
    ...(logOut ? [{ icon: "out", name: "Log out", act: logOut }] : []),
  ];
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  const key = parseKey(text);
  if (text.trim() && "key" in key && key.key.length) {
    found.push({ icon: "file", name: `Open the key ${text.trim()} in default`, act: () => go(["entry", "default"], { key: keyJson(key.key) }) });
  }
  const chosen = Math.min(at, found.length - 1);
  const run = (/** @type {number} */ place) => {
    close();
    found[place]?.act();
  };
  const keyDown = (/** @type {KeyboardEvent} */ event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    const step = steps[/** @type {"ArrowDown"} */ (event.key)];
    if (step) {
      event.preventDefault();
      setAt((chosen + step + found.length) % Math.max(found.length, 1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(chosen);
    } else if (event.key === "Escape") close();
    else if (event.key === "Tab") event.preventDefault();
  };
  useEffect(() => {
    document.getElementById(`command-${chosen}`)?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  return html`<div class="veil" onMouseDown=${(/** @type {any} */ event) => event.target === event.currentTarget && close()}>
    <div class="palette" role="dialog" aria-modal="true" aria-label="Command palette">
      <input ref=${input} class="input" role="combobox" aria-expanded="true" aria-controls="commands" aria-activedescendant=${`command-${chosen}`} aria-label="Command, page or key" placeholder="Type a command, a page or a key" value=${text} onInput=${(/** @type {any} */ event) => { setText(valueOf(event)); setAt(0); }} onKeyDown=${keyDown} />
      <ul role="listbox" id="commands" aria-label="Commands">
        ${found.map((one, place) => html`<li role="option" id=${`command-${place}`} aria-selected=${place === chosen ? "true" : "false"} onMouseMove=${() => place !== chosen && setAt(place)} onClick=${() => run(place)}><${Icon} name=${one.icon} /><span class="break">${one.name}</span>${one.note && html`<span class="muted">${one.note}</span>`}</li>`)}
        ${found.length === 0 && html`<li role="option" aria-selected="false" aria-disabled="true" class="muted">Nothing is called like that.</li>`}
      </ul>
    </div>
  </div>`;
}

const KEYS = [
  ["Ctrl K", "Command palette"],
  ["/", "Search on this page"],
  ["g, then a letter", "Go to a page: b browse, l live, x expiry, t tokens, m metrics, …"],
  ["↑ ↓ Page Up Page Down Home", "Move in lists"],
  ["Enter or →", "Open what is selected"],
  ["← or Backspace", "One level up"],
  ["Ctrl S", "Save the entry"],
  ["Esc", "Close a dialog"],
  ["?", "This help"],
];

export function KeyboardHelp() {
  return html`<dl class="keys-help">${KEYS.map(([key, text]) => html`<dt><kbd>${key}</kbd></dt><dd>${text}</dd>`)}</dl>`;
}
