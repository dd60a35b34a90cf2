// @ts-check
import { html } from "./vendor/htm-preact.js";
import { PageHead } from "./ui.js";

export function Backups() {
  return html`<${PageHead} title="Backups" />`;
}
