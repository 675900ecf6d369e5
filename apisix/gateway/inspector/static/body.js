// SPDX-License-Identifier: Apache-2.0
// Views of a body: as JSON, as text, and in hexadecimal.

import { bytes, h } from "./dom.js";

const MAX_HEX_BYTES = 16384;

/** Return the bytes of the record of a body. */
export function bodyBytes(body) {
  if (body.base64 !== undefined) return Uint8Array.from(atob(body.base64), (character) => character.charCodeAt(0));
  return new TextEncoder().encode(body.text ?? "");
}

/** Return the body as indented JSON, null if it is not JSON. */
export function asJson(body) {
  if (body.truncated || !body.text || !/^\s*[[{]/.test(body.text)) return null;
  try {
    return JSON.stringify(JSON.parse(body.text), null, 2);
  } catch {
    return null;
  }
}

/** Return the lines of a body for a comparison: of its JSON if it is JSON. */
export function bodyLines(body) {
  return body === undefined || body === null ? [] : (asJson(body) ?? asText(body)).split("\n");
}

const asText = (body) => body.text ?? new TextDecoder().decode(bodyBytes(body));

function asHex(body) {
  const data = bodyBytes(body).subarray(0, MAX_HEX_BYTES);
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = [...data.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}

/** Return a viewer for a body. */
export function bodyView(body) {
  if (!body) return h("p", { className: "dim" }, "no body");
  const json = asJson(body);
  const views = { ...(json === null ? {} : { JSON: () => json }), Text: () => asText(body), Hex: () => asHex(body) };
  const pre = h("pre", { className: "body", tabIndex: 0 });
  const buttons = Object.keys(views).map((name) => h("button", { type: "button", onclick: () => show(name) }, name));
  const show = (name) => {
    pre.textContent = views[name]();
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === name));
  };
  show(body.base64 === undefined ? Object.keys(views)[0] : "Hex");
  const size = body.truncated ? `the beginning of ${bytes(body.size)}` : bytes(body.size);
  return h("div", { className: "body-view" }, h("div", { className: "bar" }, buttons, h("span", { className: "dim" }, size)), pre);
}
