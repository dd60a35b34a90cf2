// Logging in, by an administrator's token or by a one-time link.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { post } from "./api.js";
import { Logo } from "./icons.js";
import { Field, Note, valueOf } from "./ui.js";

/** @param {{ link: string | null, entered: (session: any) => void }} props */
export function Login({ link, entered }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(Boolean(link));

  const enter = async (/** @type {any} */ proof) => {
    setBusy(true);
    setError("");
    try {
      entered(await post("/session", proof));
    } catch (failure) {
      setError(/** @type {Error} */ (failure).message);
      setBusy(false);
    }
  };
  useEffect(() => {
    if (link) {
      // The code is used up; it need not stay in the address.
      history.replaceState(null, "", "#/");
      enter({ link });
    }
  }, []);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!token.trim()) setError("Paste a token first.");
    else enter({ token: token.trim() });
  };
  return html`<main class="login"><form class="card" onSubmit=${submit}>
    <div class="row"><span class="brand"><${Logo} />Kvasir</span></div>
    <div class="stack tight"><h1>Log in to the console</h1><p class="muted">With the token of an administrator: one with the verb <code>admin</code> for every keyspace.</p></div>
    ${error && html`<${Note} kind="bad">${error}<//>`}
    <${Field} label="Token">${(/** @type {string} */ id) => html`<input id=${id} class="input mono" type="password" autocomplete="off" spellcheck="false" placeholder="kvasir_…" value=${token} onInput=${(/** @type {any} */ event) => setToken(valueOf(event))} autofocus />`}<//>
    <button class="button primary" disabled=${busy}>${busy ? html`<span class="spin"></span>Logging in` : "Log in"}</button>
    <p class="hint">No token at hand? On the server's machine <code>kvasir ui</code> prints a link that logs in this browser once, within a minute.</p>
  </form></main>`;
}
