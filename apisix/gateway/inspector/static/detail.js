// SPDX-License-Identifier: Apache-2.0
// One request: its timeline, what each plugin did, and what client and upstream sent and received.

import { bodyLines, bodyView } from "./body.js";
import { changesOnly, diffTable, headerDiff, lineDiff } from "./diff.js";
import { clock, duration, h } from "./dom.js";
import { timeline } from "./timeline.js";

const KINDS = { header: "header", argument: "argument", response_header: "response header", path: "path", status: "status", body: "body", metadata: "metadata" };

const BODY_CONTEXT = 2;

/** Return the view of a request. `actions` are {label, key, run}. */
export function detailView(flow, actions) {
  return [
    h("header", { className: "detail-head" },
      h("button", { type: "button", className: "back", onclick: actions.close.run, "aria-label": "Close" }, "✕"),
      h("h2", {}, h("span", { className: `badge ${flow.outcome}` }, String(flow.status)), " ", flow.method, " ", h("span", { className: "target" }, flow.target)),
      h("p", { className: "dim" }, [
        clock(flow.time), duration(flow.duration_s), flow.outcome,
        flow.route === undefined ? "no route" : `route ${flow.route}`, flow.upstream && `upstream ${flow.upstream}`,
      ].filter(Boolean).join(" · ")),
      h("div", { className: "actions" }, Object.values(actions).filter((action) => action.label).map((action) =>
        h("button", { type: "button", onclick: action.run, title: `Key: ${action.key}` }, action.label))),
      flow.error && h("p", { className: "error" }, flow.error),
      flow.asked_twice && h("p", { className: "warning" }, "The upstream received the request twice, because there was no body to send. APISIX does this after ext-plugin-post-resp.")),
    section("Timeline", timeline(flow)),
    ...(flow.phases ?? []).map(phaseView),
    section("Request", requestView(flow), true),
    section("Response", responseView(flow), true),
  ];
}

function section(title, content, open = true) {
  return h("details", { className: "section", open }, h("summary", {}, title), content);
}

function phaseView(phase) {
  const steps = phase.record?.steps ?? [];
  const logs = phase.record?.logs ?? [];
  const error = phase.record?.error;
  return section(phase.phase, h("div", {},
    phase.refusal && h("pre", { className: "error" }, phase.refusal),
    phase.error && h("p", { className: "error" }, phase.error),
    !phase.record && !phase.refusal && h("p", { className: "dim" }, `The runner reported no record of this call. The gateway applied: ${(phase.changes ?? []).join(", ") || "no change"}.`),
    phase.record?.metadata?.read && metadataView("metadata of the request, as this phase has found it", phase.record.metadata.read),
    steps.map(stepView),
    phase.record?.metadata?.written && metadataView("metadata of the request, as later phases find it", phase.record.metadata.written),
    phase.record?.metadata?.removed && h("p", { className: "dim" }, "The metadata of the request was removed, because it has no further phase."),
    error && !phase.refusal && errorView(error),
    logs.length > 0 && logView(logs)));
}

const metadataView = (title, body) => h("details", {}, h("summary", {}, title), bodyView(body));

function stepView(step) {
  const result = step.error ? `failed: ${step.error.kind}` : step.stopped !== undefined ? `stopped with ${step.stopped}` : step.edits?.length ? "" : "no change";
  return h("article", { className: "step" },
    h("h3", {}, step.plugin, " ", h("span", { className: "dim" }, `${duration(step.duration_s)} · ${step.runs}`), " ",
      result && h("span", { className: step.error ? "badge failed" : step.stopped !== undefined ? "badge stopped" : "dim" }, result)),
    step.edits?.length > 0 && h("table", { className: "edits" },
      h("thead", {}, h("tr", {}, ["what", "before", "after"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, step.edits.filter((edit) => edit.kind !== "body").map(editRow))),
    step.edits?.filter((edit) => edit.kind === "body").map(bodyEdit),
    step.logs?.length > 0 && logView(step.logs),
    step.error && errorView(step.error));
}

function editRow(edit) {
  const cell = (values, className) => h("td", { className: values?.length ? className : "none" }, values?.length ? values.map((value) => h("div", {}, value)) : "none");
  return h("tr", {},
    h("th", { scope: "row" }, KINDS[edit.kind], " ", edit.name && h("code", {}, edit.name), edit.for_later_plugins_only && h("small", {}, " for later plugins only")),
    cell(edit.before, "before"), cell(edit.after, "after"));
}

function bodyEdit(edit) {
  const before = edit.body_before ?? null;
  const after = edit.body_after ?? null;
  const isText = [before, after].every((body) => body === null || body.base64 === undefined);
  if (before === null) return h("div", {}, h("h4", {}, "body, which was not known before"), bodyView(after));
  if (!isText) return h("div", { className: "pair" }, h("div", {}, h("h4", {}, "body before"), bodyView(before)), h("div", {}, h("h4", {}, "body after"), bodyView(after)));
  return h("div", {}, h("h4", {}, "body"), diffTable(lineDiff(bodyLines(before), bodyLines(after))));
}

export function logView(lines) {
  return h("ol", { className: "log-lines" }, lines.map((line) =>
    h("li", { className: line.level }, h("span", { className: "level" }, line.level), " ", line.message, " ", h("span", { className: "dim" }, loggerName(line.logger)))));
}

/** Return the name of a logger without the package into which the runner loads a directory of plugins. */
const loggerName = (name) => name.replace(/^apisix_plugins_\w+_[0-9a-f]{8}\./, "");

function errorView(error) {
  const frames = error.frames ?? [];
  return h("div", { className: "failure" },
    h("p", { className: "error" }, h("b", {}, error.kind), error.message && `: ${error.message}`),
    frames.map((frame) => h("figure", { className: frame.is_author ? "frame author" : "frame" },
      h("figcaption", {}, `${frame.file}:${frame.line} in ${frame.function}`),
      frame.is_author && frame.source?.length > 0 && h("pre", { tabIndex: 0 }, frame.source.map(([number, text]) =>
        h("span", { className: number === frame.line ? "line here" : "line" }, h("span", { className: "number" }, String(number)), text || " "))))),
    h("details", {}, h("summary", {}, "traceback"), h("pre", {}, error.traceback)));
}

/** Show a request's or response's headers and body on two sides, or once if there is only one side. */
function sides(names, [left, right]) {
  if (!left || !right) {
    const one = left ?? right;
    return h("div", {}, h("h4", {}, left ? names[0] : names[1]), headers(one), bodyView(one.body));
  }
  const sameBody = left.body?.sha256 === right.body?.sha256;
  return h("div", {},
    diffTable(headerDiff(left.headers, right.headers), names),
    sameBody ? bodyView(left.body)
      : h("div", { className: "pair" }, h("div", {}, h("h4", {}, `body: ${names[0]}`), bodyView(left.body)), h("div", {}, h("h4", {}, `body: ${names[1]}`), bodyView(right.body))));
}

const headers = (message) => h("table", { className: "headers" }, h("tbody", {}, message.headers.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));

function requestView(flow) {
  const upstream = flow.upstreams?.at(-1);
  return h("div", {},
    h("p", { className: "lines" }, h("code", {}, `${flow.method} ${flow.target} ${flow.protocol}`), upstream && upstream.target !== flow.target && [" → ", h("code", {}, `${upstream.method} ${upstream.target}`)]),
    sides(["from the client", "to the upstream"], [flow.request, upstream?.request]),
    upstream?.error && h("p", { className: "error" }, upstream.error));
}

function responseView(flow) {
  const upstream = flow.upstreams?.at(-1);
  const from = upstream?.response ?? null;
  return h("div", {},
    h("p", { className: "lines" }, upstream?.status !== undefined && [h("code", {}, String(upstream.status)), " → "], h("code", {}, String(flow.status))),
    sides(["from the upstream", "to the client"], [from, flow.response]));
}

/** Return a command for a POSIX shell that sends the request with curl. Secrets stay replaced by digests. */
export function curlCommand(flow, gateway) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { body, headers } = flow.request;
  const parts = ["curl -i --globoff --path-as-is", quote(gateway + flow.target)];
  if (flow.method === "HEAD") parts.push("--head");
  else if (flow.method !== (body ? "POST" : "GET")) parts.push(`-X ${quote(flow.method)}`);
  const given = new Set();
  for (const [name, value] of headers) {
    given.add(name.toLowerCase());
    if (!SET_BY_CURL.has(name.toLowerCase())) parts.push(`-H ${quote(value === "" ? `${name};` : `${name}: ${value}`)}`);
  }
  // Without a value, curl leaves out a header that it would add.
  for (const name of ["accept", "user-agent", ...(body ? ["content-type"] : [])]) if (!given.has(name)) parts.push(`-H ${quote(`${name}:`)}`);
  if (body?.base64 !== undefined) return `echo ${body.base64} | base64 -d | ${parts.join(" ")} --data-binary @-`;
  if (body?.text !== undefined) parts.push(`--data-raw ${quote(body.text)}`);
  return parts.join(" ");
}

const SET_BY_CURL = new Set(["host", "content-length", "transfer-encoding", "connection"]);

/** Return a form in which a request can be edited. `send` is called with {method, target, headers, body}. */
export function editForm(flow, send) {
  const method = h("input", { value: flow.method, size: 8, "aria-label": "Method", required: true });
  const target = h("input", { value: flow.target, "aria-label": "Path and query", required: true, className: "wide" });
  const fields = h("textarea", { rows: Math.min(12, flow.request.headers.length + 1), "aria-label": "Headers", spellcheck: false, value: flow.request.headers.map(([name, value]) => `${name}: ${value}`).join("\n") });
  const body = flow.request.body?.base64 === undefined && !flow.request.body?.truncated;
  const content = h("textarea", { rows: 6, "aria-label": "Body", spellcheck: false, value: flow.request.body?.text ?? "", disabled: !body });
  const submit = (event) => {
    event.preventDefault();
    const headers = fields.value.split("\n").filter((line) => line.trim()).map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
    });
    send({ method: method.value, target: target.value, headers, ...(body ? { body: content.value } : {}) });
  };
  return h("form", { className: "edit section", onsubmit: submit },
    h("h3", {}, "Edit and send"),
    h("div", { className: "bar" }, method, target),
    h("label", {}, "Headers", fields),
    h("label", {}, body ? "Body" : "Body (binary or too long to be edited; it is sent as it was)", content),
    h("p", { className: "dim" }, "Values that begin with redacted- are sent as they were received."),
    h("div", { className: "actions" }, h("button", { type: "submit", className: "primary" }, "Send"), h("button", { type: "button", onclick: (event) => event.target.closest("form").remove() }, "Cancel")));
}

/** Return the comparison of a request with its repetition. */
export function comparison(before, after) {
  const parts = [];
  if (before.status !== after.status) parts.push(h("p", {}, "status ", h("code", {}, String(before.status)), " → ", h("code", {}, String(after.status))));
  const changed = (rows) => rows.some(([kind]) => kind !== "same");
  const add = (title, rows, context = 0) => changed(rows) && parts.push(h("div", {}, h("h4", {}, title), diffTable(changesOnly(rows, context), ["before", "now"])));
  add("what the plugins did", lineDiff(summary(before), summary(after)));
  const sent = [before, after].map((flow) => flow.upstreams?.at(-1));
  const line = (upstream) => (upstream ? [`${upstream.method} ${upstream.target}`] : []);
  add("request to the upstream", lineDiff(line(sent[0]), line(sent[1])));
  add("headers to the upstream", headerDiff(sent[0]?.request.headers ?? [], sent[1]?.request.headers ?? []));
  add("body to the upstream", lineDiff(bodyLines(sent[0]?.request.body), bodyLines(sent[1]?.request.body)), BODY_CONTEXT);
  add("headers to the client", headerDiff(before.response.headers, after.response.headers));
  add("body to the client", lineDiff(bodyLines(before.response.body), bodyLines(after.response.body)), BODY_CONTEXT);
  return h("section", { className: "section comparison", "aria-label": "Difference" },
    h("h3", {}, parts.length ? "Run again with the code as it is now: different" : "Run again with the code as it is now: no difference"), parts);
}

/** Return what the plugins did, one line for each edit, error and reply. */
function summary(flow) {
  return (flow.phases ?? []).flatMap((phase) => phase.record?.steps ?? (phase.refusal ?? phase.error ?? "").split("\n").map((text) => ({ plugin: phase.phase, text }))).flatMap((step) => {
    if (step.text !== undefined) return step.text ? [`${step.plugin}: ${step.text}`] : [];
    const edits = (step.edits ?? []).map((edit) => edit.kind === "body" ? `body ${edit.body_after?.size ?? 0} B` : `${KINDS[edit.kind]} ${edit.name ?? ""} ${JSON.stringify(edit.before ?? [])} -> ${JSON.stringify(edit.after ?? [])}`);
    if (step.stopped !== undefined) edits.push(`stopped with ${step.stopped}`);
    if (step.error) edits.push(`failed: ${step.error.kind}: ${step.error.message}`);
    return (edits.length ? edits : ["no change"]).map((edit) => `${step.plugin}: ${edit}`);
  });
}
