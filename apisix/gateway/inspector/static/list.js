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
    this.paused = false;
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

  /** Replace all requests. They are given oldest first. */
  load(flows) {
    this.flows = [...flows].reverse();
    this.waiting = [];
    for (const flow of flows) this.learn(flow);
    this.apply();
  }

  /** Add a request, unless the list is paused. */
  add(flow, capacity) {
    if (this.paused) {
      this.waiting.push(flow);
      this.note();
      return;
    }
    this.flows.unshift(flow);
    if (this.flows.length > capacity) this.flows.pop();
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
    this.note();
    const empty = byId("empty");
    empty.hidden = this.shown.length > 0;
    empty.textContent = this.flows.length ? "No request matches the filters." : "No requests yet. Send one to the gateway, for example with curl.";
    this.space.style.height = `${this.shown.length * ROW_PX}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_PX) - EXTRA_ROWS);
    const last = Math.min(this.shown.length, first + Math.ceil(this.element.clientHeight / ROW_PX) + 2 * EXTRA_ROWS);
    this.space.replaceChildren(...this.shown.slice(first, last).map((flow, index) => this.row(flow, first + index)));
  }

  row(flow, position) {
    const selected = flow.id === this.selected;
    const row = h("div", {
      className: `request ${flow.outcome}`, id: `flow-${flow.id}`, role: "option", "aria-selected": String(selected),
      "aria-posinset": position + 1, "aria-setsize": this.shown.length, onclick: () => this.onSelect(flow.id),
    },
      h("span", { className: "status" }, String(flow.status)),
      h("span", { className: "what" }, h("b", {}, flow.method), " ", flow.target),
      h("span", { className: "took" }, duration(flow.duration_s)),
      h("span", { className: "outcome" }, flow.outcome),
      h("span", { className: "plugins" }, (flow.plugins ?? []).join(", ") || "no plugins"),
      h("time", { dateTime: flow.time }, clock(flow.time)));
    row.style.top = `${position * ROW_PX}px`;
    if (selected) this.element.setAttribute("aria-activedescendant", row.id);
    return row;
  }
}
