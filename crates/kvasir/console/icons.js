// Line icons, 24 units wide.
// @ts-check
import { html } from "./vendor/htm-preact.js";

/** @type {Record<string, string[]>} */
const PATHS = {
  browse: ["M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z"],
  live: ["M3 12h4l3-8 4 16 3-8h4"],
  calendar: ["M4 6h16v14H4zM4 10h16M8 3v4M16 3v4"],
  token: ["M8 20a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM11.5 12.5 20 4M16.5 7.5l3 3M13.5 10.5l2 2"],
  users: ["M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5a6.5 6.5 0 0 1 3.5 5.5"],
  edge: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18"],
  class: ["M4 5h16v11H4zM8 20h8M12 16v4"],
  metrics: ["M4 20V4M4 20h16M8 16v-5M12 16V7M16 16v-3"],
  slow: ["M12 21a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 9v4l2.5 2M9 2h6"],
  backup: ["M4 7c0-2 3.6-3 8-3s8 1 8 3-3.6 3-8 3-8-1-8-3zM4 7v10c0 2 3.6 3 8 3s8-1 8-3V7M4 12c0 2 3.6 3 8 3s8-1 8-3"],
  audit: ["M6 3h12v18l-3-2-3 2-3-2-3 2zM9 8h6M9 12h6"],
  settings: ["M4 7h10M18 7h2M4 17h2M10 17h10M14 4.5v5M6 14.5v5"],
  docs: ["M6 3h9l4 4v14H6zM14 3v5h5M9 13h7M9 17h7"],
  search: ["M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4"],
  right: ["M9 6l6 6-6 6"],
  down: ["M6 9l6 6 6-6"],
  folder: ["M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z"],
  file: ["M6 3h9l4 4v14H6zM14 3v5h5"],
  plus: ["M12 5v14M5 12h14"],
  close: ["M6 6l12 12M18 6L6 18"],
  check: ["M5 12.5l4.5 4.5L19 7"],
  warn: ["M12 4l9 16H3zM12 10v4M12 17h.01"],
  info: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 8h.01"],
  copy: ["M9 9h11v11H9zM5 15H4V4h11v1"],
  menu: ["M4 7h16M4 12h16M4 17h16"],
  sun: ["M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5"],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  screen: ["M4 5h16v11H4zM9 20h6M12 16v4"],
  trash: ["M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5"],
  pause: ["M8 5v14M16 5v14"],
  play: ["M7 5l12 7-12 7z"],
  out: ["M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9"],
  refresh: ["M20 11a8 8 0 1 0-2 6M20 5v6h-6"],
  command: ["M9 9h6v6H9zM9 9H7a2 2 0 1 1 2-2zM15 9V7a2 2 0 1 1 2 2zM15 15h2a2 2 0 1 1-2 2zM9 15v2a2 2 0 1 1-2-2z"],
  clock: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3 2"],
  download: ["M12 4v11M7 11l5 5 5-5M5 20h14"],
};

/** @param {{ name: string }} props */
export function Icon({ name }) {
  return html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
    ${(PATHS[name] ?? []).map((d) => html`<path d=${d} />`)}
  </svg>`;
}

export function Logo() {
  return html`<svg viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <rect width="32" height="32" rx="8" fill="#4456d6" />
    <path d="M10 7v18M22 7 11.5 16 22 25" fill="none" stroke="#fff" stroke-width="3.4" stroke-linecap="round" stroke-linejoin="round" />
  </svg>`;
}
