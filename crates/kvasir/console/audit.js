// Who administered what, and whether the list is whole.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { count, instant } from "./format.js";
import { Icon } from "./icons.js";
import { CopyButton, Empty, Failed, Note, PageHead, Skeleton, valueOf } from "./ui.js";

/** Lines of a page. */
const PAGE = 100;

/** What the beginning of an action's name stands for. @type {Record<string, string>} */
const KINDS = { token: "accent", session: "", user: "accent", entry: "warn", entries: "warn", backup: "good", config: "good" };

/** @param {{ line: any }} props */
function Action({ line }) {
  if (!line.hash) return html`<span class="badge bad">${line.action}</span>`;
  return html`<span class=${`badge ${KINDS[line.action.split(".")[0]] ?? ""}`}>${line.action}</span>${line.status >= 500 && html` <span class="badge bad" title="It is not known what became of it.">${line.status}</span>`}`;
}

/** @param {{ line: any }} props */
function Versions({ line }) {
  if (!line.before && !line.after) return html`<span class="muted">–</span>`;
  return html`<code class="nowrap">${line.before ?? "none"}</code><br /><code class="nowrap"><span class="muted" aria-label="became">→ </span>${line.after ?? "none"}</code>`;
}

/** @param {{ verdict: any }} props */
function Verdict({ verdict }) {
  if (!verdict.intact) return html`<${Note} kind="bad"><strong>The list is not whole.</strong> ${verdict.fault.number ? `Line ${count(verdict.fault.number)}: ` : ""}${verdict.fault.what}.<//>`;
  const noted = `${verdict.last}:${verdict.hash}`;
  return html`<${Note} kind="good"><strong>All ${count(verdict.lines)} lines are there and as they were written.</strong>
    ${verdict.last > 0 && html`<div class="small">Note this somewhere else, and <code>kvasir audit verify --known</code> shows later whether somebody has written the whole list anew:</div><div class="row"><code class="break grow">${noted}</code><${CopyButton} text=${noted} /></div>`}<//>`;
}

export function Audit() {
  const [lines, setLines] = useState(/** @type {any[] | null} */ (null));
  const [before, setBefore] = useState(/** @type {number | null} */ (null));
  const [kept, setKept] = useState(/** @type {any} */ (null));
  const [text, setText] = useState("");
  const [error, setError] = useState(/** @type {any} */ (null));
  const [verdict, setVerdict] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const load = async (/** @type {number | null} */ from) => {
    setBusy(true);
    setError(null);
    try {
      const page = await get("/audit", { before: from, limit: PAGE });
      setLines((was) => (from === null ? page.lines : [...(was ?? []), ...page.lines]));
      setBefore(page.before);
      setKept(page.kept);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    load(null);
  }, []);
  const verify = async () => {
    setVerdict(null);
    setError(null);
    try {
      setVerdict(await get("/audit/verify"));
    } catch (failure) {
      setError(failure);
    }
  };
  const wanted = text.toLowerCase();
  const rows = (lines ?? []).filter((line) => [line.by, line.byName, line.from, line.action, line.on].some((one) => (one ?? "").toLowerCase().includes(wanted)));
  const rule = kept && `The last ${count(kept.lines)}${kept.days ? `, for ${count(kept.days)} days` : ""}.`;
  return html`
    <${PageHead} title="Audit" text=${`Who changed what through the admin API, with this console or without. ${rule ?? ""}`}>
      <button class="button" disabled=${busy} onClick=${() => load(null)}><${Icon} name="refresh" />Refresh</button>
      <button class="button primary" onClick=${verify}><${Icon} name="check" />Verify the list</button>
    <//>
    ${verdict && html`<${Verdict} verdict=${verdict} />`}
    ${error && html`<${Failed} error=${error} retry=${lines === null ? () => load(null) : undefined} />`}
    <section class="card" aria-label="Audit list">
      ${lines === null ? !error && html`<${Skeleton} lines=${8} />` : lines.length === 0 ? html`<${Empty} icon="audit" title="Nothing was administered yet"><p>Every change of tokens, users, backups, settings and single entries becomes a line here. What programs write with the data APIs does not.</p><//>` : html`
        <div class="toolbar"><div class="search"><${Icon} name="search" /><input class="input" data-search type="search" aria-label="Find lines" placeholder="Find in the lines below" value=${text} onInput=${(/** @type {any} */ event) => setText(valueOf(event))} /></div></div>
        ${rows.length === 0 ? html`<${Empty} icon="search" title="No line matches" />` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All lines"><table class="table"><thead><tr><th scope="col">What</th><th scope="col">To what</th><th scope="col">Who</th><th scope="col">Version</th><th scope="col" class="num">Line</th></tr></thead>
          <tbody>${rows.map((line) => html`<tr key=${line.number}><td class="nowrap"><${Action} line=${line} /><div class="small muted">${instant(line.at)}</div></td><td class="wide-cell"><code class="break">${line.on || "–"}</code></td><td><div class="break">${line.byName ?? line.by}</div><div class="small muted nowrap">${line.byName && html`<code>${line.by}</code> `}${line.from && `from ${line.from}`}</div></td><td class="small"><${Versions} line=${line} /></td><td class="num muted">${count(line.number)}</td></tr>`)}</tbody></table></div>`}
        <div class="list-foot" role="status"><span class="grow">${count(rows.length)} ${rows.length === 1 ? "line" : "lines"}${wanted && ` of ${count(lines.length)}`}</span>${before !== null && html`<button class="button slim" disabled=${busy} onClick=${() => load(before)}>Older ones</button>`}</div>`}
    </section>`;
}
