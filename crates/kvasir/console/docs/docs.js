// Shows openapi.json: every operation of every dialect, with its parameters, bodies and answers.
// Text goes in as text and never as markup; nothing is loaded but the description.

const METHODS = ["get", "put", "post", "patch", "delete"];
const DEPTH_MAX = 6;

/** Makes an element. Children are elements or text; null is left out. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** What a `$ref` stands for. */
function resolve(api, thing) {
  if (!thing?.$ref) return thing ?? {};
  return thing.$ref.replace(/^#\//, "").split("/").reduce((at, step) => at?.[step], api) ?? {};
}

/** A short word for a schema: `string`, `integer, 0 or more`. */
function typeOf(schema) {
  const types = [schema.type ?? []].flat();
  let word = types.join(" or ") || "any JSON";
  if (schema.format) word += ` (${schema.format})`;
  const bounds = [
    ["minimum", "from"], ["maximum", "to"], ["minLength", "at least, characters"], ["maxLength", "at most, characters"],
    ["minItems", "at least, items"], ["maxItems", "at most, items"],
  ];
  for (const [member, text] of bounds) {
    if (schema[member] !== undefined) word += `, ${text} ${schema[member]}`;
  }
  if (schema.enum) word += `: ${schema.enum.map((value) => JSON.stringify(value)).join(", ")}`;
  return word;
}

/** A schema as lines of pseudo-JSON with comments. */
function lines(api, given, indent = "", depth = 0, seen = []) {
  const name = given?.$ref;
  if (name && seen.includes(name)) return [`… as above (${name.split("/").pop()})`];
  const path = name ? [...seen, name] : seen;
  const schema = resolve(api, given);
  if (depth > DEPTH_MAX) return ["…"];
  const alternatives = (schema.oneOf ?? schema.anyOf ?? []).filter((one) => one.type !== "null");
  if (alternatives.length > 0) {
    const nullable = alternatives.length < (schema.oneOf ?? schema.anyOf).length ? ["or null"] : [];
    return alternatives.flatMap((one, place) => {
      const shown = lines(api, one, indent, depth + 1, path);
      return place === 0 ? shown : [`${indent}or ${shown[0]}`, ...shown.slice(1)];
    }).concat(nullable.map((text) => indent + text));
  }
  if (schema.allOf) return schema.allOf.flatMap((one) => lines(api, one, indent, depth + 1, path));
  if (schema.properties) {
    const required = new Set(schema.required ?? []);
    const inner = `${indent}  `;
    const members = Object.entries(schema.properties).flatMap(([member, value]) => {
      const shown = lines(api, value, inner, depth + 1, path);
      const note = resolve(api, value).description ?? value.description;
      const mark = required.has(member) ? "" : "?";
      const comment = note ? [`${inner}// ${note.replaceAll("\n", " ")}`] : [];
      return [...comment, `${inner}"${member}"${mark}: ${shown[0]}`, ...shown.slice(1)];
    });
    return ["{", ...members, `${indent}}`];
  }
  if (schema.items) {
    const shown = lines(api, schema.items, indent, depth + 1, path);
    return [`[ ${shown[0]}`, ...shown.slice(1, -1), shown.length > 1 ? `${shown.at(-1)}, … ]` : "", ].filter((line, place) => place === 0 || line !== "")
      .map((line, place, all) => (all.length === 1 ? `${line}, … ]` : line));
  }
  if (schema.additionalProperties && typeof schema.additionalProperties === "object") {
    const shown = lines(api, schema.additionalProperties, indent, depth + 1, path);
    return [`{ name: ${shown[0]}`, ...shown.slice(1), `${indent}… }`];
  }
  return [typeOf(schema)];
}

/** The contents of a body or answer, by media type. */
function contents(api, content) {
  return Object.entries(content ?? {}).map(([type, media]) =>
    el("div", { class: "content" }, el("code", { class: "type" }, type), el("pre", {}, lines(api, media.schema).join("\n"))));
}

function parameters(api, operation, item) {
  const all = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((one) => resolve(api, one));
  if (all.length === 0) return null;
  const rows = all.map((one) => el("tr", {},
    el("td", {}, el("code", {}, one.name), one.required ? "" : " optional"),
    el("td", {}, one.in),
    el("td", {}, typeOf(resolve(api, one.schema))),
    el("td", {}, one.description ?? "")));
  const head = ["name", "in", "type", "meaning"].map((text) => el("th", { scope: "col" }, text));
  return el("section", {}, el("h4", {}, "Parameters"),
    el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))));
}

/** A command line that calls the operation, with the names of what has to be filled in. */
function curl(api, method, path, operation) {
  const parts = ["curl"];
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  for (const requirement of operation.security ?? []) {
    const scheme = api.components?.securitySchemes?.[Object.keys(requirement)[0]];
    if (scheme?.scheme === "bearer") parts.push("-H 'Authorization: Bearer TOKEN'");
    else if (scheme?.in === "header") parts.push(`-H '${scheme.name}: …'`);
    break;
  }
  const type = Object.keys(resolve(api, operation.requestBody).content ?? {})[0];
  if (type) parts.push(`-H 'Content-Type: ${type}'`, "--data-binary @-");
  parts.push(`'${location.origin}${path}'`);
  return parts.join(" ");
}

function proofs(api, operation) {
  const names = (operation.security ?? []).flatMap((one) => Object.keys(one));
  if (names.length === 0) return "Nobody has to show who they are.";
  return names.map((name) => api.components?.securitySchemes?.[name]?.description ?? name).join(" Or: ");
}

/** One operation, closed until somebody opens it; its inside is made then. */
function operationOf(api, method, path, operation, item) {
  const summary = operation.summary ?? "";
  const box = el("details", { id: operation.operationId, class: "operation" },
    el("summary", {}, el("span", { class: `method ${method}` }, method.toUpperCase()),
      el("code", { class: "path" }, path), el("span", { class: "what" }, summary)));
  const fill = () => {
    if (box.childElementCount > 1) return;
    const body = resolve(api, operation.requestBody);
    const answers = Object.entries(operation.responses ?? {}).map(([status, given]) => {
      const answer = resolve(api, given);
      return el("div", { class: "answer" }, el("h5", {}, el("code", {}, status), ` ${answer.description ?? ""}`),
        contents(api, answer.content));
    });
    box.append(el("div", { class: "inside" },
      operation.description ? el("p", {}, operation.description) : null,
      el("p", { class: "proof" }, proofs(api, operation)),
      el("pre", { class: "curl" }, curl(api, method, path, operation)),
      parameters(api, operation, item),
      body.content ? el("section", {}, el("h4", {}, "Body"), body.description ? el("p", {}, body.description) : null, contents(api, body.content)) : null,
      el("section", {}, el("h4", {}, "Answers"), answers)));
  };
  box.addEventListener("toggle", fill);
  box.dataset.words = `${method} ${path} ${summary} ${operation.description ?? ""}`.toLowerCase();
  return box;
}

function show(api) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths ?? {})) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operationOf(api, method, path, operation, item));
    }
  }
  const names = [...groups.keys()].sort();
  const sections = names.map((name) =>
    el("section", { id: `dialect-${name}`, class: "dialect" }, el("h2", {}, name), groups.get(name)));
  document.querySelector("#dialects").replaceChildren(
    ...names.map((name) => el("a", { href: `#dialect-${name}` }, `${name} `, el("span", {}, String(groups.get(name).length)))));
  document.querySelector("#operations").replaceChildren(
    el("p", { class: "about" }, api.info?.description ?? ""), ...sections);
  document.title = `${api.info?.title ?? "API"} ${api.info?.version ?? ""}`;
  const wanted = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted instanceof HTMLDetailsElement) wanted.open = true;
  wanted?.scrollIntoView();
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll(".dialect")) {
    let any = false;
    for (const box of section.querySelectorAll(".operation")) {
      const hit = words.every((word) => box.dataset.words.includes(word));
      box.hidden = !hit;
      any ||= hit;
    }
    section.hidden = !any;
  }
}

document.querySelector("#filter").addEventListener("input", (event) => filter(event.target.value));
try {
  const answer = await fetch("openapi.json", { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.querySelector("#operations").replaceChildren(
    el("p", { role: "alert" }, `The description could not be read: ${error.message}. Load the page again.`));
}
