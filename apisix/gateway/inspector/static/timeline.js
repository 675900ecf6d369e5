// SPDX-License-Identifier: Apache-2.0
// The timeline of a request: the gateway, each phase, each plugin and info request, and the upstream.

import { duration, h } from "./dom.js";

/** Return the rows of the timeline: {name, kind, began, took, depth}. Times are in seconds from the arrival of the request. */
export function timelineRows(flow) {
  const rows = [{ name: "gateway", kind: "gateway", began: 0, took: flow.duration_s, depth: 0 }];
  const events = [
    ...(flow.phases ?? []).map((phase) => ({ began: phase.began_s, rows: phaseRows(phase) })),
    ...(flow.upstreams ?? []).map((upstream) => ({
      began: upstream.began_s,
      rows: [{ name: `upstream ${upstream.node}`, kind: "upstream", began: upstream.began_s, took: upstream.duration_s, depth: 1 }],
    })),
  ].sort((a, b) => a.began - b.began);
  return [...rows, ...events.flatMap((event) => event.rows)];
}

function phaseRows(phase) {
  const rows = [{ name: phase.phase, kind: "phase", began: phase.began_s, took: phase.duration_s, depth: 1 }];
  const record = phase.record;
  if (!record) return rows;
  // The runner's clock begins when it has received the call: the rest of the phase is the way there and back.
  const way = Math.max(0, phase.duration_s - record.duration_s) / 2;
  const at = (offset) => phase.began_s + way + offset;
  const infos = (plugin) => (record.info ?? []).filter((info) => (info.plugin ?? null) === plugin).map((info) => ({
    name: info.kind === "variable" ? `variable ${info.name}` : info.kind.replace("_", " "),
    kind: "info", began: at(info.began_s), took: info.duration_s, depth: 3,
  }));
  for (const step of record.steps ?? []) {
    const kind = step.error ? "failed" : step.stopped !== undefined ? "stopped" : "plugin";
    rows.push({ name: step.plugin, kind, began: at(step.began_s), took: step.duration_s, depth: 2 }, ...infos(step.plugin));
  }
  return [...rows, ...infos(null)];
}

/** Return the timeline as an element. */
export function timeline(flow) {
  const rows = timelineRows(flow);
  const total = Math.max(flow.duration_s, ...rows.map((row) => row.began + row.took), 1e-6);
  return h("div", { className: "timeline", role: "list", "aria-label": "Timeline" }, rows.map((row) => {
    const bar = h("span", { className: `bar-of ${row.kind}` });
    bar.style.left = `${(100 * row.began) / total}%`;
    bar.style.width = `${Math.max(0.3, (100 * row.took) / total)}%`;
    const label = h("span", { className: "label" }, row.name);
    label.style.paddingLeft = `${row.depth * 0.8}rem`;
    const title = `${row.name}: begins after ${duration(row.began)}, takes ${duration(row.took)}`;
    return h("div", { className: "row", role: "listitem", title }, label, h("span", { className: "track" }, bar), h("span", { className: "took" }, duration(row.took)));
  }));
}
