// SPDX-License-Identifier: Apache-2.0
// Small helpers for the DOM. Text is always set as text, never as HTML: all of it comes from clients and plugins.

/**
 * Create an element. `properties` are assigned, except for those with a dash, which are attributes, and `on...`, which are listeners.
 * Children are elements and texts; null and false are left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Return a duration in seconds as text with three digits. */
export function duration(seconds) {
  const ms = seconds * 1000;
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

/** Return a number of bytes as text. */
export function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1048576 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1048576).toFixed(1)} MiB`;
}

// Made once: `toLocaleTimeString` makes one for each call, which is slow.
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** Return the time of day. */
export const clock = (time) => CLOCK.format(new Date(time));

const MAX_TOASTS = 4;

/** Show a short message for a few seconds, below those that are shown already. */
export function toast(text, isError = false) {
  const toasts = byId("toasts");
  for (const shown of [...toasts.children]) if (shown.textContent === text) shown.remove();
  const element = h("div", { className: isError ? "toast error" : "toast" }, text);
  toasts.append(element);
  while (toasts.childElementCount > MAX_TOASTS) toasts.firstElementChild.remove();
  setTimeout(() => element.remove(), (isError ? 8000 : 4000) + 30 * text.length);
}
