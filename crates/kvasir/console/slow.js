// @ts-check
import { html } from "./vendor/htm-preact.js";
import { PageHead } from "./ui.js";

export function Slow() {
  return html`<${PageHead} title="Slow requests" />`;
}
