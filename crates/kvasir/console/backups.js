// Backups: taking, verifying, rehearsing, downloading; jobs with their progress.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { ApiFailure, apiUrl, get, post, put, remove } from "./api.js";
import { count, duration, instant, relative, size } from "./format.js";
import { Icon } from "./icons.js";
import { Dialog, Empty, Failed, Field, Note, PageHead, Skeleton, toast, useLoaded, useNow, valueOf } from "./ui.js";

const STATES = { running: "accent", done: "good", failed: "bad", cancelled: "warn" };

export function Backups() {
  const found = useLoaded((signal) => get("/backups", {}, { signal }), []);
  const [jobs, setJobs] = useState(/** @type {any[]} */ ([]));
  const [isTaking, setIsTaking] = useState(false);
  const [isPlanning, setIsPlanning] = useState(false);
  const [pruning, setPruning] = useState(/** @type {any} */ (null));
  const now = useNow(5000);
  const isRunning = jobs.some((job) => job.state === "running");
  const ask = async () => {
    const { jobs: fresh } = await get("/jobs", {}, { background: true });
    setJobs((was) => {
      // Also of a job that began and ended between two looks.
      const over = (/** @type {any[]} */ jobs) => jobs.filter((job) => job.state !== "running").map((job) => job.id).join();
      if (over(fresh) !== over(was)) found.reload();
      return fresh;
    });
  };
  useEffect(() => {
    if (!found.value) return undefined;
    ask().catch(() => {});
    const timer = setInterval(() => ask().catch(() => {}), isRunning ? 1000 : 10000);
    return () => clearInterval(timer);
  }, [isRunning, Boolean(found.value)]);
  const begin = async (/** @type {string} */ path, /** @type {any} */ body, /** @type {string} */ told) => {
    try {
      await post(path, body);
      toast(told);
      await ask();
    } catch (error) {
      toast(/** @type {Error} */ (error).message, "bad");
    }
  };
  const head = (/** @type {any} */ children) => html`<${PageHead} title="Backups" text="Everything as it is at one moment, taken while the server works.">${children}<//>`;
  if (found.error instanceof ApiFailure && found.error.status === 404) return html`${head(null)}<div class="card"><${Empty} icon="backup" title="No backups are taken here"><p>This server knows no place for backups. On its machine <code>kvasir export</code> writes a copy.</p><//></div>`;
  if (found.error) return html`${head(null)}<${Failed} error=${found.error} retry=${found.reload} />`;
  if (!found.value) return html`${head(null)}<div class="card"><${Skeleton} lines=${6} /></div>`;
  const { backups, schedule, lastDrill, target, leftOut } = found.value;
  return html`
    ${head(html`<button class="button" disabled=${isRunning || backups.length === 0} onClick=${() => begin("/backups/drill", {}, "The rehearsal began.")}>Rehearse a restore</button><button class="button primary" disabled=${isRunning} onClick=${() => setIsTaking(true)}><${Icon} name="plus" />Take a backup</button>`)}
    ${lastDrill && html`<${Note} kind=${lastDrill.ok ? "good" : "bad"}><strong>${lastDrill.ok ? "The last rehearsal went well" : "The last rehearsal failed"}</strong> (${instant(lastDrill.at)}, ${duration(lastDrill.durationMs)}, ${count(lastDrill.entries)} entries): ${lastDrill.detail}<//>`}
    ${leftOut.length > 0 && html`<${Note} kind="warn"><strong>Not in any backup:</strong> ${leftOut.map((/** @type {any} */ one) => `${one.mount} (${one.backend})`).join(", ")}. These mounts have a store of their own; back it up with its database’s own tool.<//>`}
    <section class="card" aria-label="Backups"><div class="card-head"><h2 class="grow">At <code class="break">${target}</code></h2>${backups.length > 0 && html`<button class="button slim" onClick=${() => post("/backups/prune", { dryRun: true }).then(setPruning, (error) => toast(error.message, "bad"))}>Prune</button>`}</div>
      ${backups.length === 0 ? html`<${Empty} icon="backup" title="No backup yet"><p>Take one now, or set when they are taken.</p><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All backups"><table class="table"><thead><tr><th scope="col">Taken</th><th scope="col" class="num">Size</th><th scope="col" class="num">Entries</th><th scope="col">State</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
        <tbody>${backups.map((/** @type {any} */ one) => html`<tr key=${one.name}><td><div class="nowrap">${instant(one.createdAt)} <span class="small muted">${relative(Date.parse(one.createdAt), now)}</span></div><code class="small muted break">${one.name}</code></td><td class="num nowrap">${size(one.bytes)}</td><td class="num">${one.entries === null ? "–" : count(one.entries)}</td>
          <td><div class="row">${one.damage ? html`<span class="badge bad" title=${one.damage}>damaged</span>` : one.verifiedAt ? html`<span class="badge good" title=${`verified ${instant(one.verifiedAt)}`}>verified</span>` : html`<span class="badge">not verified</span>`}${one.encrypted && html`<span class="badge accent">encrypted</span>`}</div></td>
          <td class="num nowrap"><button class="button slim" disabled=${isRunning} aria-label=${`Verify ${one.name}`} onClick=${() => begin(`/backups/${encodeURIComponent(one.name)}/verify`, {}, "Verifying began.")}>Verify</button> <button class="button slim" disabled=${isRunning} aria-label=${`Rehearse ${one.name}`} onClick=${() => begin("/backups/drill", { name: one.name }, "The rehearsal began.")}>Rehearse</button> <a class="button slim" aria-label=${`Download ${one.name}`} download=${one.name} href=${apiUrl(`/backups/${encodeURIComponent(one.name)}/content`)}><${Icon} name="download" />Download</a></td></tr>`)}</tbody></table></div>`}
    </section>
    ${jobs.length > 0 && html`<section class="card" aria-label="Jobs"><div class="card-head"><h2>Jobs</h2></div><div class="table-wrap" tabindex="0" role="region" aria-label="All jobs"><table class="table"><thead><tr><th scope="col">Job</th><th scope="col">State</th><th scope="col" class="num">Entries</th><th scope="col" class="num">Bytes</th><th scope="col">Detail</th><th scope="col"><span class="sr">Actions</span></th></tr></thead><tbody>${jobs.slice(0, 20).map((job) => html`<tr key=${job.id}><td><div>${job.kind}</div><span class="small muted nowrap">${instant(job.startedAt)}</span></td><td><span class=${`badge ${STATES[/** @type {"done"} */ (job.state)] ?? ""}`}>${job.state === "running" && html`<span class="spin"></span>`}${job.state}</span></td><td class="num">${count(job.entries)}</td><td class="num nowrap">${size(job.bytes)}</td><td class="small break">${job.detail}${job.warning && html`<div class="muted">${job.warning}</div>`}</td><td class="num">${job.state === "running" && html`<button class="button slim danger" onClick=${() => remove(`/jobs/${encodeURIComponent(job.id)}`).then(ask, (error) => toast(error.message, "bad"))}>Cancel</button>`}</td></tr>`)}</tbody></table></div></section>`}
    <section class="card" aria-label="Schedule"><div class="card-head"><h2 class="grow">Schedule</h2><button class="button slim" onClick=${() => setIsPlanning(true)}>Change</button></div><dl class="card-body facts small">
      <dt>Taken</dt><dd>${schedule.cron ? html`<code>${schedule.cron}</code> (UTC)${schedule.nextAt && html`, next ${instant(schedule.nextAt)}`}` : "only when asked for"}</dd>
      <dt>Rehearsed</dt><dd>${schedule.drillCron ? html`<code>${schedule.drillCron}</code> (UTC)${schedule.nextDrillAt && html`, next ${instant(schedule.nextDrillAt)}`}` : "only when asked for"}</dd>
      <dt>Kept</dt><dd>${[schedule.keepCount && `the last ${count(schedule.keepCount)}`, schedule.keepDays && `${schedule.keepDays} days`, schedule.keepBytes && `up to ${size(schedule.keepBytes)}`].filter(Boolean).join(", ") || "all of them"}; the newest verified one always</dd>
    </dl></section>
    ${isTaking && html`<${Take} close=${() => setIsTaking(false)} begin=${begin} />`}
    ${isPlanning && html`<${Plan} schedule=${schedule} close=${() => setIsPlanning(false)} done=${() => { setIsPlanning(false); found.reload(); }} />`}
    ${pruning && html`<${Dialog} title="Prune backups" close=${() => setPruning(null)} foot=${html`<button class="button" onClick=${() => setPruning(null)} data-first>Cancel</button><button class="button danger primary" disabled=${pruning.removed.length === 0} onClick=${() => post("/backups/prune", {}).then(() => { toast("Removed."); setPruning(null); found.reload(); }, (error) => toast(error.message, "bad"))}>Remove ${count(pruning.removed.length)}</button>`}><p>${pruning.removed.length === 0 ? "The rules keep all of them." : `By the rules of the schedule ${count(pruning.removed.length)} go and ${count(pruning.kept.length)} stay.`}</p>${pruning.removed.length > 0 && html`<pre class="code wrap scroll" tabindex="0" aria-label="Would be removed">${pruning.removed.join("\n")}</pre>`}<//>`}`;
}

/** @param {any} props */
function Take({ close, begin }) {
  const [comment, setComment] = useState("");
  const [verifies, setVerifies] = useState(true);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    close();
    begin("/backups", { comment, skipVerify: !verifies }, "The backup began.");
  };
  return html`<${Dialog} title="Take a backup" close=${close} foot=${html`<button class="button" onClick=${close}>Cancel</button><button class="button primary" form="take">Take it</button>`}><form id="take" class="stack" onSubmit=${submit}>
    <${Field} label="Comment" hint="Written beside it; may stay empty.">${(/** @type {string} */ id) => html`<input id=${id} class="input" maxlength="1000" value=${comment} onInput=${(/** @type {any} */ event) => setComment(valueOf(event))} />`}<//>
    <label class="check"><input type="checkbox" checked=${verifies} onChange=${() => setVerifies(!verifies)} />Read it again afterwards to see that it is whole</label>
  </form><//>`;
}

/** @param {any} props */
function Plan({ schedule, close, done }) {
  const [cron, setCron] = useState(schedule.cron ?? "");
  const [error, setError] = useState(/** @type {any} */ (null));
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await put("/backups/schedule", { cron });
      toast("The schedule counts from now on.");
      done();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Dialog} title="Schedule" close=${close} foot=${html`<button class="button" onClick=${close}>Cancel</button><button class="button primary" form="plan">Set it</button>`}><form id="plan" class="stack" onSubmit=${submit}>
    <${Field} label="When" hint=${html`Minute, hour, day, month and weekday in UTC: <code>30 3 * * *</code> is every night at 3:30. Empty for never.`}>${(/** @type {string} */ id) => html`<input id=${id} class="input mono" spellcheck="false" value=${cron} onInput=${(/** @type {any} */ event) => setCron(valueOf(event))} />`}<//>
    ${error && html`<${Failed} error=${error} />`}
  </form><//>`;
}
