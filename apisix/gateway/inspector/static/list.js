// SPDX-License-Identifier: Apache-2.0
// The list of requests. Only the rows that are visible are in the document, so its length costs nothing.

import { byId, clock, duration, h } from "./dom.js";

export const ROW_PX = 44;
const EXTRA_ROWS = 8;
const OUTCOMES = ["passed", "changed", "stopped", "failed", "error"];

export class RequestList {
  /** @param onSelect called with the id of the request that is selected. */
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.flows = [];
    this.shown = [];
    this.waiting = [];
    this.rows = new Map();
    this.paused = false;
    this.arrived = null; // a list while requests are loaded
    this.selected = null;
    this.filters = { text: "", route: "", plugin: "", outcome: "" };
    this.element = byId("rows");
    this.space = h("div", { className: "space" });
    this.element.append(this.space);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.options = { route: new Set(), plugin: new Set() };
    this.fill("outcome", OUTCOMES, "any outcome");
    this.fill("route", [], "any route");
    this.fill("plugin", [], "any plugin");
    this.drawing = false;
  }

  /** Call before the requests are fetched. Those that arrive until `load` are kept. */
  expectLoad() {
    this.arrived = [];
  }

  /** Replace all requests. They are given oldest first. */
  load(flows, capacity) {
    const { arrived } = this;
    this.arrived = null;
    this.flows = [...flows].reverse();
    this.waiting = [];
    for (const flow of flows) this.learn(flow);
    this.apply();
    for (const flow of arrived ?? []) this.add(flow, capacity);
  }

  /** Add a request, unless the list is paused. */
  add(flow, capacity) {
    if (this.arrived) {
      this.arrived.push(flow);
      return;
    }
    if (this.flows.some((known) => known.id === flow.id)) return; // it was loaded already
    if (this.paused) {
      this.waiting.push(flow);
      if (this.waiting.length > capacity) this.waiting.shift();
      this.note();
      return;
    }
    this.flows.unshift(flow);
    // Both lists are in the same order, so the oldest request can only be the last one that is shown.
    if (this.flows.length > capacity && this.flows.pop() === this.shown.at(-1)) this.shown.pop();
    this.learn(flow);
    if (this.matches(flow)) {
      this.shown.unshift(flow);
      // What the reader looks at stays where it is.
      if (this.element.scrollTop > 0) this.element.scrollTop += ROW_PX;
    }
    this.schedule();
  }

  pause(paused, capacity) {
    this.paused = paused;
    if (paused) return;
    const waiting = this.waiting;
    this.waiting = [];
    for (const flow of waiting) this.add(flow, capacity);
  }

  learn(flow) {
    const found = { route: flow.route === undefined ? [] : [flow.route], plugin: flow.plugins ?? [] };
    for (const kind of ["route", "plugin"]) {
      const fresh = found[kind].filter((name) => !this.options[kind].has(name));
      if (!fresh.length) continue;
      for (const name of fresh) this.options[kind].add(name);
      this.fill(kind, [...this.options[kind]].sort(), `any ${kind}`);
    }
  }

  fill(kind, names, any) {
    const select = byId(`filter-${kind}`);
    const value = select.value;
    select.replaceChildren(h("option", { value: "" }, any), ...names.map((name) => h("option", { value: name }, name)));
    select.value = value;
  }

  matches(flow) {
    const { text, route, plugin, outcome } = this.filters;
    if (route && flow.route !== route) return false;
    if (plugin && !(flow.plugins ?? []).includes(plugin)) return false;
    if (outcome && flow.outcome !== outcome) return false;
    return !text || `${flow.method} ${flow.target} ${flow.status} ${flow.error ?? ""}`.toLowerCase().includes(text);
  }

  filter(filters) {
    this.filters = { ...filters, text: filters.text.toLowerCase() };
    this.apply();
  }

  apply() {
    this.shown = this.flows.filter((flow) => this.matches(flow));
    this.schedule();
  }

  select(id, scroll = true) {
    this.selected = id;
    const position = this.shown.findIndex((flow) => flow.id === id);
    if (scroll && position >= 0) {
      const top = position * ROW_PX;
      if (top < this.element.scrollTop) this.element.scrollTop = top;
      else if (top + ROW_PX > this.element.scrollTop + this.element.clientHeight) this.element.scrollTop = top + ROW_PX - this.element.clientHeight;
    }
    this.schedule();
  }

  /** Select the request `step` rows below the selected one. */
  move(step) {
    if (!this.shown.length) return;
    const position = this.shown.findIndex((flow) => flow.id === this.selected);
    const next = position < 0 ? 0 : Math.min(this.shown.length - 1, Math.max(0, position + step));
    this.onSelect(this.shown[next].id);
  }

  /** Draw once before the next frame, however many requests arrive until then. */
  schedule() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.draw(); });
  }

  note() {
    const filtered = this.shown.length === this.flows.length ? `${this.flows.length}` : `${this.shown.length} of ${this.flows.length}`;
    byId("count").textContent = this.waiting.length ? `${filtered} (+${this.waiting.length})` : filtered;
  }

  draw() {
    // Sizes are read before anything is written, or the browser would compute the layout twice.
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - EXTRA_ROWS);
    const last = Math.min(this.shown.length, Math.ceil((scrollTop + clientHeight) / ROW_PX) + EXTRA_ROWS);
    this.note();
    const empty = byId("empty");
    empty.hidden = this.shown.length > 0;
    empty.textContent = this.flows.length ? "No request matches the filters." : "No requests yet. Send one to the gateway, for example with curl.";
    this.space.style.height = `${this.shown.length * ROW_PX}px`;
    this.place(this.shown.slice(first, last), first);
  }

  /** Show rows. Elements that are there already stay in the document, or a click on one of them would be lost. */
  place(flows, first) {
    const before = this.rows;
    this.rows = new Map(flows.map((flow) => [flow.id, before.get(flow.id) ?? this.row(flow)]));
    for (const [id, row] of before) if (!this.rows.has(id)) row.remove();
    let next = this.space.firstElementChild;
    let position = first;
    for (const [id, row] of this.rows) {
      if (row === next) next = next.nextElementSibling;
      else this.space.insertBefore(row, next);
      const top = `${position * ROW_PX}px`;
      if (row.style.top !== top) row.style.top = top;
      change(row, "aria-posinset", ++position);
      change(row, "aria-setsize", this.shown.length);
      change(row, "aria-selected", id === this.selected);
    }
    if (this.rows.has(this.selected)) change(this.element, "aria-activedescendant", `flow-${this.selected}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  row(flow) {
    return h("div", { className: `request ${flow.outcome}`, id: `flow-${flow.id}`, role: "option", onclick: () => this.onSelect(flow.id) },
      h("span", { className: `status ${flow.status >= 500 ? "server-error" : flow.status >= 400 ? "client-error" : ""}` }, String(flow.status)),
      h("span", { className: "what" }, h("b", {}, flow.method), " ", flow.target),
      h("span", { className: "took" }, duration(flow.duration_s)),
      h("span", { className: "outcome" }, flow.outcome),
      h("span", { className: "plugins" }, (flow.plugins ?? []).join(", ") || "no plugins"),
      h("time", { dateTime: flow.time }, clock(flow.time)));
  }
}

/** Set an attribute, unless it has the value. */
function change(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
