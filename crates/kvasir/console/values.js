// Values in their typed form: what there is, what new ones look like, how they are shown.
// @ts-check
import { byteLength, fromBase64, hex } from "./format.js";

/** @typedef {{ type: string, value?: any }} Typed */

/** Kinds that can be made in the editor. The first column is the type on the wire. @type {[string, string][]} */
export const KINDS = [
  ["string", "text"],
  ["number", "number"],
  ["bigint", "bigint"],
  ["boolean", "boolean"],
  ["null", "null"],
  ["undefined", "undefined"],
  ["Date", "Date"],
  ["RegExp", "RegExp"],
  ["Uint8Array", "bytes"],
  ["json_array", "array"],
  ["json_object", "object"],
  ["json_map", "Map"],
  ["json_set", "Set"],
];

/** A new value of a kind, as close to the old one as it can be. @param {string} type @param {Typed} [from] @returns {Typed} */
export function madeOf(type, from) {
  const text = from && ["string", "number", "bigint", "boolean"].includes(from.type) ? String(from.value) : "";
  switch (type) {
    case "string":
      return { type, value: text };
    case "number":
      return { type, value: text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : 0 };
    case "bigint":
      return { type, value: /^-?\d+$/.test(text) ? text : "0" };
    case "boolean":
      return { type, value: text === "true" };
    case "Date":
      return { type, value: new Date(Math.floor(Date.now() / 1000) * 1000).toISOString() };
    case "RegExp":
      return { type, value: "/.*/" };
    case "Uint8Array":
      return { type, value: "" };
    case "json_array":
    case "json_set":
      return { type, value: from?.type === "json_array" || from?.type === "json_set" ? from.value : [] };
    case "json_map":
      return { type, value: from?.type === "json_object" ? Object.entries(from.value).map(([name, value]) => [{ type: "string", value: name }, value]) : [] };
    case "json_object":
      return { type, value: {} };
    default:
      return { type };
  }
}

/** What is wrong with a value; null if nothing is. @param {Typed} node @returns {string | null} */
export function fault(node) {
  switch (node.type) {
    case "number":
      return typeof node.value === "number" || /^(NaN|-?Infinity|-0)$/.test(node.value) ? null : "Write a number, NaN, Infinity, -Infinity or -0.";
    case "bigint":
    case "KvU64":
      if (!/^-?\d+$/.test(node.value)) return "Write decimal digits.";
      if (node.type === "KvU64" && (BigInt(node.value) < 0n || BigInt(node.value) >= 1n << 64n)) return "A u64 lies between 0 and 18446744073709551615.";
      return null;
    case "Date":
      return node.value === null || !Number.isNaN(Date.parse(node.value)) ? null : "Write a time such as 2026-01-02T03:04:05.678Z.";
    case "RegExp":
      return /^\/[^]*\/[dgimsuvy]*$/.test(node.value) ? null : "Write an expression such as /a+/gi.";
    case "json_array":
    case "json_set":
      return first(node.value, fault);
    case "json_map":
      return first(node.value, (/** @type {Typed[]} */ pair) => fault(pair[0]) ?? fault(pair[1]));
    case "json_object":
      return first(Object.values(node.value), fault);
    default:
      return null;
  }
}

/** @param {any[]} list @param {(one: any) => string | null} of */
function first(list, of) {
  for (const one of list) {
    const found = of(one);
    if (found) return found;
  }
  return null;
}

/** About how many bytes a value takes as V8 writes it. @param {Typed} node @returns {number} */
export function estimate(node) {
  const sum = (/** @type {any[]} */ list, /** @type {(one: any) => number} */ of) => list.reduce((bytes, one) => bytes + of(one), 3);
  switch (node.type) {
    case "string":
      return 2 + (/[^\u0000-\u00ff]/.test(node.value) ? node.value.length * 2 : node.value.length);
    case "number":
      return Number.isInteger(node.value) ? 3 : 9;
    case "bigint":
      return 3 + Math.ceil(String(node.value).length * 0.42);
    case "Date":
      return 9;
    case "RegExp":
      return 4 + byteLength(String(node.value));
    case "json_array":
    case "json_set":
      return sum(node.value, estimate);
    case "json_map":
      return sum(node.value, (pair) => estimate(pair[0]) + estimate(pair[1]));
    case "json_object":
      return sum(Object.entries(node.value), ([name, value]) => 2 + name.length + estimate(value));
    default:
      return typeof node.value === "string" ? 6 + Math.floor(node.value.length * 0.75) : 1;
  }
}

/** A value as JavaScript would show it, over several lines. @param {Typed} node @param {string} [pad] @returns {string} */
export function shown(node, pad = "") {
  const inner = `${pad}  `;
  const block = (/** @type {string} */ open, /** @type {string[]} */ lines, /** @type {string} */ close) =>
    lines.length ? `${open}\n${lines.map((line) => `${inner}${line}`).join(",\n")}\n${pad}${close}` : `${open}${close}`;
  switch (node.type) {
    case "string":
      return JSON.stringify(node.value);
    case "number":
      return Object.is(node.value, -0) ? "-0" : String(node.value);
    case "boolean":
      return String(node.value);
    case "null":
    case "undefined":
      return node.type;
    case "bigint":
      return `${node.value}n`;
    case "KvU64":
      return `u64 ${node.value}`;
    case "Date":
      return node.value === null ? "Invalid Date" : `Date ${node.value}`;
    case "RegExp":
      return String(node.value);
    case "json_array":
      return block("[", node.value.map((/** @type {Typed} */ one) => shown(one, inner)), "]");
    case "json_set":
      return block("Set {", node.value.map((/** @type {Typed} */ one) => shown(one, inner)), "}");
    case "json_map":
      return block("Map {", node.value.map((/** @type {Typed[]} */ pair) => `${shown(pair[0], inner)} => ${shown(pair[1], inner)}`), "}");
    case "json_object":
      return block("{", Object.entries(node.value).map(([name, value]) => `${JSON.stringify(name)}: ${shown(value, inner)}`), "}");
    case "v8":
      return "a value that has no plain form";
    default:
      if (typeof node.value === "string" && /Array|Buffer|DataView/.test(node.type)) return `${node.type} ${hexLines(fromBase64(node.value), inner)}`;
      return `${node.type} ${JSON.stringify(node.value)}`;
  }
}

/** Bytes in hexadecimal digits, cut off where nobody reads any more. @param {Uint8Array} bytes @param {string} [pad] */
export function hexLines(bytes, pad = "") {
  const SHOWN = 4096;
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, SHOWN); at += 16) lines.push(hex(bytes.subarray(at, at + 16)).replace(/(..)(?=.)/g, "$1 "));
  if (bytes.length > SHOWN) lines.push(`… ${bytes.length - SHOWN} more bytes`);
  return lines.join(`\n${pad}`);
}

/**
 * JSON in lines, token by token, so that no number and no name is changed.
 *
 * @param {string} text valid JSON
 */
export function formatJson(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, at) => {
    const next = tokens[at + 1];
    if (token === "{" || token === "[") {
      if (next === "}" || next === "]") {
        out += token;
        return;
      }
      depth += 1;
      out += `${token}\n${"  ".repeat(depth)}`;
    } else if (token === "}" || token === "]") {
      const before = tokens[at - 1];
      if (before === "{" || before === "[") {
        out += token;
        return;
      }
      depth = Math.max(0, depth - 1);
      out += `\n${"  ".repeat(depth)}${token}`;
    } else if (token === ",") out += `,\n${"  ".repeat(depth)}`;
    else if (token === ":") out += ": ";
    else out += token;
  });
  return out;
}

/** What is wrong with JSON text; null if nothing is. @param {string} text */
export function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return `This is not JSON: ${/** @type {Error} */ (error).message}`;
  }
}

/** An entry of the API as lines for people, for comparing. @param {any} entry @returns {string} */
export function entryText(entry) {
  if (!entry) return "(nothing)";
  if (entry.text !== null && entry.text !== undefined) return jsonFault(entry.text) ? entry.text : formatJson(entry.text);
  if (entry.typed) {
    const text = shown(entry.typed);
    return entry.exact ? text : `${text}\n\nstored bytes:\n${hexLines(fromBase64(entry.raw))}`;
  }
  if (entry.raw !== null && entry.raw !== undefined) return hexLines(fromBase64(entry.raw));
  return entry.preview ?? "";
}
