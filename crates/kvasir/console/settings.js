// @ts-check
import { html } from "./vendor/htm-preact.js";
import { PageHead } from "./ui.js";

export function Settings() {
  return html`<${PageHead} title="Settings" />`;
}
