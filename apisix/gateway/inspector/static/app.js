// SPDX-License-Identifier: Apache-2.0
// The page: events of the server in, views out.

import { call, listen } from "./api.js";
import { failureText, loadBackground, showBackground } from "./background.js";
import { comparison, curlCommand, detailView, editForm } from "./detail.js";
import { byId, clock, h, toast } from "./dom.js";
import { RequestList } from "./list.js";
import { loadErrors, showLoadErrors } from "./load_errors.js";
import { showRoutes } from "./routes.js";

const MAX_LOG_LINES = 1000;

const state = { selected: null, flow: null, view: "requests", unread: 0, info: { capacity: 1000, gateway: "" }, background: [] };
const list = new RequestList(select);

async function load() {
  list.expectLoad();
  state.info = await call("GET", "info");
  list.load(await call("GET", "flows"), state.info.capacity);
  state.background = await loadBackground();
  await loadErrors();
  if (location.hash.startsWith("#flow-")) await select(location.hash.slice(6));
}

async function select(id) {
  state.selected = id;
  list.select(id);
  try {
    const flow = await call("GET", `flows/${id}`);
    if (state.selected !== id) return; // another one was selected meanwhile
    state.flow = flow;
    byId("detail").replaceChildren(...detailView(flow, actions));
    byId("detail").hidden = false;
    byId("detail").scrollTop = 0;
    byId("requests").classList.add("has-detail");
    history.replaceState(null, "", `#flow-${id}`);
  } catch (error) {
    toast(error.message, true);
    close();
  }
}

function close() {
  state.selected = state.flow = null;
  byId("detail").hidden = true;
  byId("requests").classList.remove("has-detail");
  history.replaceState(null, "", location.pathname);
  list.select(null);
  list.element.focus();
}

/** Show an element above the view of the request, instead of the one with the same class. */
function addNote(name, element) {
  const detail = byId("detail");
  detail.querySelector(`.${name}`)?.remove();
  detail.querySelector(".detail-head").after(element);
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message, true);
    return undefined;
  }
}

const send = (edited) => attempt(async () => {
  const { id } = await call("POST", `flows/${state.selected}/send`, edited ?? {});
  await select(id);
  toast("The request was sent again.");
});

function edit() {
  const form = editForm(state.flow, send);
  addNote("edit", form);
  form.querySelector(".wide").focus();
}

const runAgain = () => attempt(async () => {
  const id = state.selected;
  const { before, after } = await call("POST", `flows/${id}/rerun`, {});
  if (state.selected !== id) return;
  addNote("comparison", comparison(before, after));
});

const copyCurl = () => attempt(async () => {
  const command = curlCommand(state.flow, state.info.gateway);
  await navigator.clipboard.writeText(command);
  const notes = ["Copied."];
  if (command.includes("redacted-")) notes.push("Secrets are replaced by digests: insert them.");
  if (state.flow.request.body?.truncated) notes.push("The body is too long: only its beginning was copied.");
  toast(notes.join(" "));
});

const saveTest = () => attempt(async () => {
  const { path, command, differs } = await call("POST", `flows/${state.selected}/test`, {});
  const copy = () => attempt(async () => { await navigator.clipboard.writeText(command); toast("Copied."); });
  addNote("saved", h("p", { className: "section saved", role: "status" },
    "Saved as ", h("code", {}, path), ". Run it with ", h("code", {}, command), " ", h("button", { type: "button", onclick: copy }, "Copy the command"),
    differs && h("span", { className: "dim" }, " The plugins have another result now than when the request arrived. The test asserts the result of now.")));
});

const actions = {
  close: { key: "Escape", run: close },
  send: { label: "Send again", key: "s", run: () => send() },
  edit: { label: "Edit and send", key: "e", run: edit },
  rerun: { label: "Run again", key: "r", run: runAgain },
  curl: { label: "Copy as curl", key: "c", run: copyCurl },
  test: { label: "Save as test", key: "t", run: saveTest },
};

function show(view) {
  state.view = view;
  for (const name of ["requests", "routes", "log"]) byId(name).hidden = name !== view;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  if (view === "routes") showRoutes();
  if (view === "log") { state.unread = 0; byId("unread").textContent = ""; }
  if (view === "requests") list.draw();
}

function logLine(kind, text, time) {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(h("div", { className: `entry ${kind}` }, h("time", {}, clock(time ?? Date.now())), " ", h("span", { className: "level" }, kind), " ", h("span", { className: "text" }, text)));
  while (log.childElementCount > MAX_LOG_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  if (state.view !== "log") byId("unread").textContent = String(++state.unread);
}

listen({
  open: () => { byId("connection").textContent = "live"; byId("connection").className = "connection live"; attempt(load); },
  lost: () => { byId("connection").textContent = "not connected"; byId("connection").className = "connection lost"; },
  flow: (flow) => list.add(flow, state.info.capacity),
  cleared: () => { list.load([], state.info.capacity); close(); },
  log: (record) => logLine(record.level ?? "output", [record.message, record.exception].filter(Boolean).join("\n"), record.time),
  notice: (text) => logLine("notice", text),
  problem: (problem) => { logLine("problem", problem); toast(problem, true); },
  load_errors: showLoadErrors,
  background: (tasks) => {
    const failure = failureText(state.background, tasks);
    if (failure) toast(failure, true);
    showBackground(state.background = tasks);
  },
  reloaded: (what) => {
    logLine("notice", what);
    toast(what);
    if (state.view === "routes") showRoutes();
    if (state.selected) runAgain();
  },
});

const filter = () => list.filter({ text: byId("filter-text").value, route: byId("filter-route").value, plugin: byId("filter-plugin").value, outcome: byId("filter-outcome").value });
byId("filters").addEventListener("input", filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", () => attempt(() => call("DELETE", "flows")));
byId("help-button").addEventListener("click", () => byId("help").showModal());
for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => show(button.dataset.view));

function pause() {
  const button = byId("pause");
  const paused = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(paused));
  button.textContent = paused ? "Continue" : "Pause";
  list.pause(paused, state.info.capacity);
}
byId("pause").addEventListener("click", pause);

const keys = {
  "/": () => byId("filter-text").focus(),
  "?": () => byId("help").showModal(),
  p: pause,
  j: () => list.move(1), ArrowDown: () => list.move(1),
  k: () => list.move(-1), ArrowUp: () => list.move(-1),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.key === "Escape") {
    if (event.target.id === "filter-text") {
      event.preventDefault(); // the browser would empty the field, but not the filter
      event.target.blur();
    } else if (byId("detail").querySelector("form.edit")) byId("detail").querySelector("form.edit").remove();
    else if (!typing && state.selected) close();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || state.view !== "requests") return;
  const scrolls = event.key.startsWith("Arrow") && event.target.closest("pre, .detail");
  const action = keys[event.key] ?? (state.flow && Object.values(actions).find((known) => known.label && known.key === event.key)?.run);
  if (!action || scrolls) return;
  event.preventDefault();
  action();
});
