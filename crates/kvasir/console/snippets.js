// How programs reach the key on screen, in each API's own spelling. Secrets are placeholders.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { CopyButton, Segments } from "./ui.js";
import { fromBase64 } from "./format.js";

/** @typedef {import("./keys.js").Part} Part */

const LANGUAGES = /** @type {[string, string][]} */ ([
  ["curl", "curl"],
  ["httpie", "HTTPie"],
  ["node", "Node"],
  ["deno", "Deno"],
  ["python", "Python"],
  ["rust", "Rust"],
]);

/** Text in single quotes for a shell. @param {string} text */
const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;
const js = (/** @type {any} */ value) => JSON.stringify(value);
/** Text as a Python or Rust literal: JSON's escapes are understood by Python. @param {string} text */
const rust = (text) => `r####"${text}"####`;

/** A request in a language. @param {string} language @param {{ url: string, headers: [string, string][] }} request */
function inLanguage(language, { url, headers }) {
  switch (language) {
    case "curl":
      return [`curl ${quoted(url)}`, ...headers.map(([name, value]) => `  -H ${quoted(`${name}: ${value}`)}`)].join(" \\\n");
    case "httpie":
      return [`http GET ${quoted(url)}`, ...headers.map(([name, value]) => `  ${quoted(`${name}:${value}`)}`)].join(" \\\n");
    case "python":
      return `import requests\n\nanswer = requests.get(\n    ${js(url)},\n    headers={${headers.map(([name, value]) => `${js(name)}: ${js(value)}`).join(", ")}},\n)\nanswer.raise_for_status()\nprint(answer.text)`;
    case "rust":
      return `let answer = reqwest::Client::new()\n    .get(${rust(url)})\n${headers.map(([name, value]) => `    .header(${js(name)}, ${js(value)})\n`).join("")}    .send()\n    .await?\n    .error_for_status()?;\nprintln!("{}", answer.text().await?);`;
    default:
      return `const answer = await fetch(${js(url)}, {\n  headers: { ${headers.map(([name, value]) => `${js(name)}: ${js(value)}`).join(", ")} },\n});\nif (!answer.ok) throw new Error(await answer.text());\nconsole.log(await answer.text());`;
  }
}

/** A part as JavaScript writes it in a Deno key. @param {Part} part */
function denoPart(part) {
  if (part.type === "bigint") return `${part.value}n`;
  if (part.type === "Uint8Array") return `new Uint8Array([${[...fromBase64(part.value)].join(", ")}])`;
  if (part.type === "number") return Object.is(part.value, -0) ? "-0" : String(part.value);
  return js(part.value);
}

/** A part as the Python package denokv takes it. @param {Part} part */
function pythonPart(part) {
  if (part.type === "boolean") return part.value ? "True" : "False";
  if (part.type === "bigint") return String(part.value);
  if (part.type === "number") return /^-?\d+$/.test(String(part.value)) ? `${part.value}.0` : /[NI]/.test(String(part.value)) ? `float(${js(String(part.value))})` : String(part.value);
  if (part.type === "Uint8Array") return `bytes([${[...fromBase64(part.value)].join(", ")}])`;
  return js(part.value);
}

/** The keypath of the REST API, if every part is text with something in it. @param {Part[]} parts */
function restPath(parts) {
  if (!parts.length || parts.some((part) => part.type !== "string" || part.value === "")) return null;
  return parts.map((part) => encodeURIComponent(part.value.replace(/[\\.]/g, "\\$&"))).join(".");
}

/**
 * The APIs that reach a key, each with its request.
 *
 * @param {string} keyspace
 * @param {Part[]} parts
 * @returns {{ name: string, note?: string, of: (language: string) => string }[]}
 */
export function apisOf(keyspace, parts) {
  const base = location.origin;
  const texts = parts.map((part) => (part.type === "string" ? part.value : null));
  const areTexts = texts.every((text) => text !== null);
  const segment = (/** @type {any} */ text) => encodeURIComponent(text);
  const bearer = /** @type {[string, string][]} */ ([["Authorization", "Bearer <token>"]]);
  const apis = [];
  const path = restPath(parts);
  if (keyspace === "default" && path) apis.push({ name: "REST", of: (/** @type {string} */ language) => inLanguage(language, { url: `${base}/kv/${path}`, headers: bearer }) });
  const isTuple = parts.every((part) => part.type !== "raw");
  if (isTuple && parts.length) {
    const url = keyspace === "default" ? base : `${base}/db/${keyspace}`;
    const key = `[${parts.map(denoPart).join(", ")}]`;
    const program = {
      deno: `// DENO_KV_ACCESS_TOKEN=<token>\nconst kv = await Deno.openKv(${js(url)});\nconst entry = await kv.get(${key});\nconsole.log(entry.value, entry.versionstamp);`,
      node: `import { openKv } from "@deno/kv";\n\nconst kv = await openKv(${js(url)}, { accessToken: "<token>" });\nconst entry = await kv.get(${key});\nconsole.log(entry.value, entry.versionstamp);`,
      python: `import asyncio\nfrom denokv import open_kv\n\nasync def main():\n    async with open_kv(${js(url)}, access_token="<token>") as kv:\n        _, entry = await kv.get((${parts.map(pythonPart).join(", ")},))\n        print(entry.value, entry.versionstamp)\n\nasyncio.run(main())`,
    };
    const command = `kvasir get --server ${base} ${quoted(path && keyspace === "default" ? decodeURIComponent(path) : key)}`;
    apis.push({
      name: "Deno KV",
      note: "KV Connect is a binary protocol; use a client of it. In a shell, the command line reads the same entry.",
      of: (/** @type {string} */ language) => program[/** @type {"deno"} */ (language)] ?? (language === "rust" ? `// Any KV Connect client. With the crate denokv_remote:\n// open ${url} with the access token <token>, key ${key}` : command),
    });
  }
  if (keyspace === "kopano" && areTexts && texts.length === 5 && texts[0] === "user") {
    const rest = [texts[3], texts[4]].filter((text) => text !== "").map((text) => String(text).split("/").map(segment).join("/")).join("/");
    apis.push({ name: "Kopano", note: `The owner is the user ${texts[1]} with the client ${texts[2]} of the access token.`, of: (/** @type {string} */ language) => inLanguage(language, { url: `${base}/api/kvs/v1/kv/user/${rest}`, headers: [["Authorization", "Bearer <OpenID access token>"]] }) });
  }
  if (keyspace === "edgekv" && areTexts && texts.length === 4) {
    const [network, namespace, group, item] = texts;
    const url = `https://${location.hostname}:8443/edgekv/v1/networks/${network}/namespaces/${segment(namespace)}/groups/${segment(group)}/items/${segment(item)}`;
    const signed = {
      httpie: `http --auth-type edgegrid -a default: GET ${quoted(url)}`,
      curl: `# EdgeGrid signs each request; curl cannot.\nakamai edgekv read item ${network} ${quoted(String(namespace))} ${quoted(String(group))} ${quoted(String(item))}`,
      python: `import requests\nfrom akamai.edgegrid import EdgeGridAuth, EdgeRc\n\nsession = requests.Session()\nsession.auth = EdgeGridAuth.from_edgerc(EdgeRc("kvasir-data/edgegrid/.edgerc"), "default")\nsession.verify = "kvasir-data/tls/ca.pem"\nprint(session.get(${js(url)}).text)`,
      node: `import EdgeGrid from "akamai-edgegrid";\n\nconst edge = new EdgeGrid({ path: "kvasir-data/edgegrid/.edgerc", section: "default" });\nedge.auth({ path: ${js(new URL(url).pathname)}, method: "GET" }).send((error, answer, body) => console.log(error ?? body));`,
    };
    apis.push({ name: "EdgeKV", note: "Requests are signed with the credential in DIR/edgegrid/.edgerc.", of: (/** @type {string} */ language) => signed[/** @type {"curl"} */ (language)] ?? `// ${url}\n// Sign the request with EdgeGrid: the credential is in DIR/edgegrid/.edgerc.` });
  }
  if (keyspace === "classworks" && areTexts && texts.length === 2) {
    apis.push({ name: "Classworks", of: (/** @type {string} */ language) => inLanguage(language, { url: `${base}/classworks/${segment(texts[0])}/${segment(texts[1])}`, headers: [["x-site-key", "<site key>"]] }) });
  }
  const admin = `${base}/_/api/v1/entry?keyspace=${encodeURIComponent(keyspace)}&key=${encodeURIComponent(JSON.stringify(parts))}`;
  apis.push({ name: "Admin API", of: (/** @type {string} */ language) => inLanguage(language, { url: admin, headers: bearer }) });
  return apis;
}

/** @param {{ keyspace: string, parts: Part[] }} props */
export function Snippets({ keyspace, parts }) {
  const apis = apisOf(keyspace, parts);
  const [name, setName] = useState(apis[0].name);
  const [language, setLanguage] = useState("curl");
  const api = apis.find((one) => one.name === name) ?? apis[0];
  const text = api.of(language);
  return html`<section class="card" aria-label="Use from a program">
    <div class="card-head"><h2 class="grow">Use from a program</h2>
      <${Segments} label="API" value=${api.name} choose=${setName} options=${apis.map((one) => [one.name, one.name])} />
      <${Segments} label="Language" value=${language} choose=${setLanguage} options=${LANGUAGES} /></div>
    <div class="card-body stack"><pre class="code" tabindex="0" aria-label="Example"><code>${text}</code></pre>
      <div class="row"><${CopyButton} text=${text} />${api.note && html`<span class="hint">${api.note}</span>`}</div></div>
  </section>`;
}
