// Keys: lists of typed parts, as the admin API writes them, and as people write them.
// @ts-check

import { fromBase64, fromHex, hex, toBase64 } from "./format.js";

/** @typedef {{ type: string, value: any }} Part */

/** One part as people write it in a key: "text", 1, 12n, true, 0xff. @param {Part} part */
export function partText(part) {
  switch (part.type) {
    case "string":
      return JSON.stringify(part.value);
    case "bigint":
      return `${part.value}n`;
    case "Uint8Array":
      return `0x${hex(fromBase64(part.value))}`;
    case "raw":
      return `raw 0x${hex(fromBase64(part.value))}`;
    case "number":
      return Object.is(part.value, -0) ? "-0" : String(part.value);
    default:
      return String(part.value);
  }
}

/** The same without quotes around text. @param {Part} part */
export const partLabel = (part) => (part.type === "string" ? part.value : partText(part));

/** @param {Part} part */
export const partClass = (part) => (part.type === "Uint8Array" ? "bytes" : part.type);

/** A whole key as people write it. @param {Part[]} key */
export const keyText = (key) => `[${key.map(partText).join(", ")}]`;

/** A key as JSON for the API and for addresses; minus zero is kept. @param {Part[]} key */
export const keyJson = (key) =>
  JSON.stringify(key.map((part) => (Object.is(part.value, -0) ? { type: "number", value: "-0" } : part)));

/** @param {string} text @returns {Part[]} */
export function keyFromJson(text) {
  try {
    const key = JSON.parse(text);
    return Array.isArray(key) ? key : [];
  } catch {
    return [];
  }
}

/** @param {Part[]} a @param {Part[]} b */
export const sameKey = (a, b) => keyJson(a) === keyJson(b);

/**
 * Reads a key as people write it: ["users", 1, 12n, true, 0xff], or, without brackets, text parts
 * with slashes between them.
 *
 * @param {string} text
 * @returns {{ key: Part[] } | { error: string }}
 */
export function parseKey(text) {
  const trimmed = text.trim();
  if (!trimmed.startsWith("[")) {
    const parts = trimmed.split("/").filter((part) => part !== "");
    return { key: parts.map((value) => ({ type: "string", value })) };
  }
  if (!trimmed.endsWith("]")) return { error: "The closing bracket is missing." };
  const inside = trimmed.slice(1, -1);
  /** @type {Part[]} */
  const key = [];
  let at = 0;
  const skip = () => {
    while (at < inside.length && /\s/.test(inside[at])) at += 1;
  };
  for (skip(); at < inside.length; skip()) {
    if (key.length) {
      if (inside[at] !== ",") return { error: `A comma is missing before ${inside.slice(at, at + 12)}` };
      at += 1;
      skip();
    }
    const rest = inside.slice(at);
    const word = /^"(?:[^"\\]|\\.)*"|^[^,\s]+/.exec(rest)?.[0] ?? "";
    const part = parsePart(word);
    if (!part) return { error: `${word || "Nothing"} is no key part. Write "text", 1, 12n, true or 0xff.` };
    key.push(part);
    at += word.length;
  }
  return { key };
}

/** @param {string} word @returns {Part | null} */
export function parsePart(word) {
  if (word.startsWith('"')) {
    try {
      return { type: "string", value: JSON.parse(word) };
    } catch {
      return null;
    }
  }
  if (word === "true" || word === "false") return { type: "boolean", value: word === "true" };
  if (/^-?\d+n$/.test(word)) return { type: "bigint", value: word.slice(0, -1) };
  if (/^0x/i.test(word)) {
    const bytes = fromHex(word.slice(2));
    return bytes && { type: "Uint8Array", value: toBase64(bytes) };
  }
  if (/^-?(NaN|Infinity)$/.test(word)) return { type: "number", value: word };
  if (/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word)) return { type: "number", value: Number(word) };
  return null;
}
