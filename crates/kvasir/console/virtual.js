// A list of any length in a box that scrolls.
//
// Browsers end elements at about 33 million pixels (17 in Firefox), and a million rows are 40. So a
// long list scrolls in a shorter space: small steps move it by as much as they say, and large ones, as
// of the scroll bar, to the same part of the whole.
// @ts-check
import { useEffect, useRef, useState } from "./vendor/htm-preact.js";

/** Highest space, in pixels. */
const SPACE_MAX = 8_000_000;

/** After so long without a step the scroll bar is put where the list is, in milliseconds. */
const REST_MS = 150;

/**
 * Where a list stands.
 *
 * @param {{ current: HTMLElement | null }} box
 * @param {{ rows: number, rowHeight: number, height: number }} list `height` is that of the box
 */
export function useVirtual(box, { rows, rowHeight, height }) {
  const whole = rows * rowHeight;
  const space = Math.min(whole, SPACE_MAX);
  const isShortened = space < whole;
  const reach = Math.max(0, whole - height);
  const spaceReach = Math.max(1, space - height);
  const [at, setAt] = useState({ top: 0, scrolled: 0 });
  const scrolled = useRef(0);

  const onScroll = (/** @type {any} */ event) => {
    const now = event.currentTarget.scrollTop;
    const step = now - scrolled.current;
    scrolled.current = now;
    setAt((was) => {
      let top = now;
      if (isShortened) {
        if (now <= 0) top = 0;
        else if (now >= spaceReach - 1) top = reach;
        else if (Math.abs(step) <= 2 * height) top = Math.max(0, Math.min(reach, was.top + step));
        else top = (now / spaceReach) * reach;
      }
      return { top, scrolled: now };
    });
  };
  /** Puts the scroll bar where the list is. @param {number} top */
  const settle = (top) => {
    const element = box.current;
    if (!element) return;
    element.scrollTop = isShortened ? Math.round((top / Math.max(1, reach)) * spaceReach) : top;
    scrolled.current = element.scrollTop;
    setAt({ top, scrolled: element.scrollTop });
  };
  useEffect(() => {
    // More rows came: who is at the end of the space must be able to scroll on.
    if (isShortened) settle(at.top);
  }, [whole]);
  useEffect(() => {
    if (!isShortened) return undefined;
    const timer = setTimeout(() => {
      const wanted = Math.round((at.top / Math.max(1, reach)) * spaceReach);
      if (Math.abs(wanted - at.scrolled) > 1) settle(at.top);
    }, REST_MS);
    return () => clearTimeout(timer);
  }, [at.top, at.scrolled, whole]);

  return {
    /** Pixels of the list above the view. */
    top: at.top,
    /** Height of the element in the box. */
    space,
    onScroll,
    /** Where a row stands in that element. @param {number} row */
    topOf: (row) => row * rowHeight - at.top + at.scrolled,
    /** Scrolls as little as shows a row. @param {number} row */
    show: (row) => {
      const top = row * rowHeight;
      if (top < at.top) settle(top);
      else if (top + rowHeight > at.top + height) settle(top + rowHeight - height);
    },
  };
}
