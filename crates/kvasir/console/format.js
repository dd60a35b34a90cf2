// Numbers, sizes and times as people read them.
// @ts-check

const plain = new Intl.NumberFormat("en");

/** @param {number} number */
export const count = (number) => plain.format(number);

/** @param {number} bytes */
export function size(bytes) {
  if (!Number.isFinite(bytes)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A duration in milliseconds, in two units. @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => Number(amount) > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** Time until or since. @param {number} at @param {number} [now] */
export function relative(at, now = Date.now()) {
  const away = at - now;
  return away >= 0 ? `in ${duration(away)}` : `${duration(-away)} ago`;
}

/** @param {number | string} at */
export function instant(at) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  return date.toLocaleString("en-GB", { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** @param {number | string} at */
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour12: false });

/** A number with few digits. @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (size >= 100) return plain.format(Math.round(value));
  if (size >= 1 || size === 0) return String(Math.round(value * 10) / 10);
  return value.toPrecision(2);
}

/** The value of a datetime-local input for a moment. @param {number} at */
export function localInput(at) {
  const date = new Date(at - new Date(at).getTimezoneOffset() * 60000);
  return date.toISOString().slice(0, 19);
}

/** @param {string} text base64 @returns {Uint8Array} */
export function fromBase64(text) {
  const plainText = text.replace(/-/g, "+").replace(/_/g, "/");
  const binary = atob(plainText);
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
}

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Hexadecimal digits, spaces allowed; null for other text. @param {string} text @returns {Uint8Array | null} */
export function fromHex(text) {
  const digits = text.replace(/\s+/g, "");
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) return null;
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(at * 2, at * 2 + 2), 16));
}

/** Bytes as text if they are UTF-8, else null. @param {Uint8Array} bytes */
export function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** @param {string} text */
export const byteLength = (text) => new TextEncoder().encode(text).length;
