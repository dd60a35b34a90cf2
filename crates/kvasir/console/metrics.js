// The last half hour in numbers.
// @ts-check
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { ApiFailure, get } from "./api.js";
import { Chart } from "./charts.js";
import { count, short, size } from "./format.js";
import { Empty, Failed, PageHead, Skeleton } from "./ui.js";

const NAMES = [
  "kvasir_http_requests_total",
  "kvasir_http_request_seconds_bucket",
  "kvasir_http_request_seconds_count",
  "kvasir_http_requests_in_progress",
  "kvasir_http_connections",
  "kvasir_store_commits_total",
  "kvasir_store_conflicts_total",
  "kvasir_store_groups_total",
  "kvasir_store_sync_seconds_bucket",
  "kvasir_store_queue_wait_seconds_bucket",
  "kvasir_store_queue_writes",
  "kvasir_store_cache_hits_total",
  "kvasir_store_cache_misses_total",
  "kvasir_store_watchers",
  "kvasir_store_followers",
  "kvasir_store_disk_bytes",
  "kvasir_store_disk_free_bytes",
  "kvasir_store_expired_swept_total",
];

const EVERY_MS = 5000;

/** @typedef {{ at: number[], series: { name: string, labels: Record<string, string>, values: (number | null)[] }[] }} Measured */

/** @param {string} name @returns {Record<string, string>} */
function labelsOf(name) {
  return Object.fromEntries([...name.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, value]) => [label, value]));
}

/** @param {any} answer @returns {Measured} */
function measured(answer) {
  return { at: answer.at, series: answer.series.map((/** @type {any} */ one) => ({ name: one.name.split("{")[0], labels: labelsOf(one.name), values: one.values })) };
}

/** @param {Measured} all @param {string} name @param {(labels: Record<string, string>) => boolean} [wanted] */
function summed(all, name, wanted = () => true) {
  const found = all.series.filter((one) => one.name === name && wanted(one.labels));
  return all.at.map((_, at) => (found.some((one) => one.values[at] !== null) ? found.reduce((sum, one) => sum + (one.values[at] ?? 0), 0) : null));
}

/** Differences per second; a counter that fell was begun anew. @param {number[]} at @param {(number | null)[]} values */
function perSecond(at, values) {
  return values.slice(1).map((value, place) => {
    const before = values[place];
    if (value === null || before === null) return null;
    return Math.max(0, value - before) / Math.max(0.001, (at[place + 1] - at[place]) / 1000);
  });
}

/** A quantile of a histogram in each step, in milliseconds. @param {Measured} all @param {string} name @param {number} part */
function quantile(all, name, part) {
  const bounds = [...new Set(all.series.filter((one) => one.name === name).map((one) => one.labels.le))].map((le) => (le === "+Inf" ? Infinity : Number(le))).sort((a, b) => a - b);
  const sums = bounds.map((bound) => summed(all, name, (labels) => (labels.le === "+Inf" ? Infinity : Number(labels.le)) === bound));
  return all.at.slice(1).map((_, place) => {
    const grown = sums.map((values) => Math.max(0, (values[place + 1] ?? 0) - (values[place] ?? 0)));
    const total = grown[grown.length - 1];
    if (!total) return null;
    const at = grown.findIndex((amount) => amount >= total * part);
    const [low, high] = [at > 0 ? bounds[at - 1] : 0, bounds[at]];
    if (!Number.isFinite(high)) return low * 1000;
    const below = at > 0 ? grown[at - 1] : 0;
    return (low + ((high - low) * (total * part - below)) / Math.max(1e-9, grown[at] - below)) * 1000;
  });
}

export function Metrics() {
  const [all, setAll] = useState(/** @type {Measured | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let isOver = false;
    const ask = async (/** @type {boolean} */ background) => {
      try {
        const answer = await get("/metrics", { names: NAMES.join() }, { background });
        if (!isOver) {
          setAll(measured(answer));
          setError(null);
        }
      } catch (failure) {
        if (!isOver) setError(failure);
      }
    };
    ask(false);
    const timer = setInterval(() => ask(true), EVERY_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, []);
  const head = html`<${PageHead} title="Metrics" text="The last half hour of this process, a sample every five seconds. Prometheus finds the same under /metrics." />`;
  if (error instanceof ApiFailure && error.status === 404) return html`${head}<div class="card"><${Empty} icon="metrics" title="Metrics are switched off"><p>Set <code>metrics.enabled = true</code> and start the server again.</p><//></div>`;
  if (error && !all) return html`${head}<${Failed} error=${error} />`;
  if (!all) return html`${head}<div class="card"><${Skeleton} lines=${8} /></div>`;
  const times = all.at.slice(1);
  const rate = (/** @type {string} */ name, /** @type {((labels: Record<string, string>) => boolean) | undefined} */ wanted = undefined) => perSecond(all.at, summed(all, name, wanted));
  const level = (/** @type {string} */ name) => summed(all, name).slice(1);
  const ms = (/** @type {number} */ value) => (value < 1 ? value.toFixed(2) : short(value));
  const failed = rate("kvasir_http_requests_total", (labels) => ["4xx", "5xx"].includes(labels.status));
  const hits = rate("kvasir_store_cache_hits_total");
  const misses = rate("kvasir_store_cache_misses_total");
  const hitRate = hits.map((hit, at) => (hit === null || misses[at] === null || hit + (misses[at] ?? 0) === 0 ? null : (hit / (hit + (misses[at] ?? 0))) * 100));
  const groups = rate("kvasir_store_groups_total");
  const commits = rate("kvasir_store_commits_total");
  const perGroup = commits.map((commit, at) => (commit && groups[at] ? commit / (groups[at] ?? 1) : null));
  const chart = (/** @type {any} */ props) => html`<${Chart} at=${times} ...${props} />`;
  return html`${head}
    ${error && html`<${Failed} error=${error} />`}
    <div class="charts">
      ${chart({ title: "Requests", unit: "/s", values: rate("kvasir_http_requests_total"), second: failed, secondName: "refused or failed" })}
      ${chart({ title: "Latency", unit: "ms", firstName: "median", secondName: "p99", show: ms, values: quantile(all, "kvasir_http_request_seconds_bucket", 0.5), second: quantile(all, "kvasir_http_request_seconds_bucket", 0.99) })}
      ${chart({ title: "Commits", unit: "/s", values: commits, second: rate("kvasir_store_conflicts_total"), secondName: "conflicts" })}
      ${chart({ title: "Sync time", unit: "ms", firstName: "median", secondName: "p99", show: ms, values: quantile(all, "kvasir_store_sync_seconds_bucket", 0.5), second: quantile(all, "kvasir_store_sync_seconds_bucket", 0.99) })}
      ${chart({ title: "Queue wait", unit: "ms", firstName: "median", secondName: "p99", show: ms, values: quantile(all, "kvasir_store_queue_wait_seconds_bucket", 0.5), second: quantile(all, "kvasir_store_queue_wait_seconds_bucket", 0.99) })}
      ${chart({ title: "Writes waiting", values: level("kvasir_store_queue_writes") })}
      ${chart({ title: "Writes per sync", values: perGroup })}
      ${chart({ title: "Cache hits", unit: "%", values: hitRate })}
      ${chart({ title: "Watchers", values: level("kvasir_store_watchers"), second: level("kvasir_store_followers"), secondName: "followers of ranges" })}
      ${chart({ title: "Connections", values: level("kvasir_http_connections"), second: level("kvasir_http_requests_in_progress"), secondName: "requests in progress" })}
      ${chart({ title: "Size on disk", show: size, values: level("kvasir_store_disk_bytes") })}
      ${chart({ title: "Free on disk", show: size, values: level("kvasir_store_disk_free_bytes") })}
      ${chart({ title: "Expired and removed", unit: "/s", values: rate("kvasir_store_expired_swept_total") })}
    </div>
    <${ByDialect} all=${all} />`;
}

/** @param {{ all: Measured }} props */
function ByDialect({ all }) {
  const dialects = [...new Set(all.series.filter((one) => one.name === "kvasir_http_requests_total").map((one) => one.labels.dialect))].sort();
  const last = (/** @type {(number | null)[]} */ values) => values[values.length - 1] ?? 0;
  return html`<section class="card" aria-label="By API"><div class="card-head"><h2>By API</h2></div><div class="table-wrap" tabindex="0" role="region" aria-label="Requests by API"><table class="table"><thead><tr><th scope="col">API</th>${["2xx", "3xx", "4xx", "5xx"].map((status) => html`<th scope="col" class="num">${status}</th>`)}<th scope="col" class="num">Now, per second</th></tr></thead>
    <tbody>${dialects.map((dialect) => html`<tr><td>${dialect}</td>${["2xx", "3xx", "4xx", "5xx"].map((status) => html`<td class="num">${count(last(summed(all, "kvasir_http_requests_total", (labels) => labels.dialect === dialect && labels.status === status)))}</td>`)}<td class="num">${short(last(perSecond(all.at, summed(all, "kvasir_http_requests_total", (labels) => labels.dialect === dialect))))}</td></tr>`)}</tbody></table></div></section>`;
}
