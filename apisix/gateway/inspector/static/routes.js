// SPDX-License-Identifier: Apache-2.0
// The routes with their chains. A configuration can be edited, and is validated while it is typed.

import { call } from "./api.js";
import { backgroundView } from "./background.js";
import { byId, h, toast } from "./dom.js";
import { SchemaForm } from "./schema_form.js";

const VALIDATE_AFTER_MS = 250;

let shown = new Map(); // the plugins in the view by their places: {signature, element}

/** Load the routes and show them. What is open stays open, and what is typed into the form of a plugin stays, unless the plugin has changed. */
export async function showRoutes() {
  const view = byId("routes");
  try {
    const { routes, problems, file } = await call("GET", "routes");
    const before = { shown, closed: new Set([...view.querySelectorAll("details[data-route]:not([open])")].map((route) => route.dataset.route)), focus: document.activeElement };
    shown = new Map();
    view.replaceChildren(
      h("div", { className: "bar" }, h("h2", {}, "Routes"), h("button", { type: "button", onclick: () => write(file), title: `Comments in ${file} are lost. The old file is kept as ${file}.bak.` }, `Write to ${file}`)),
      ...problems.map((problem) => h("p", { className: "warning" }, problem)),
      backgroundView,
      ...(routes.length ? routes.map((route) => routeView(route, before)) : [h("p", { className: "empty" }, "There are no routes. Create one in apisix.yaml or with the admin API.")]));
    if (view.contains(before.focus)) before.focus.focus();
  } catch (error) {
    view.replaceChildren(h("p", { className: "error" }, error.message));
  }
}

async function write(file) {
  try {
    const { path, note } = await call("POST", "routes/write", {});
    toast(`The routes were written to ${path}. ${note}`);
  } catch (error) {
    toast(`The routes were not written to ${file}: ${error.message}`, true);
  }
}

function routeView(route, before) {
  return h("details", { className: "section", open: !before.closed.has(route.id), dataset: { route: route.id } },
    h("summary", {}, h("b", {}, route.name ?? route.id), " ", h("code", {}, `${(route.methods ?? []).join(" ") || "any method"} ${route.uris.join(" ")}`), " ", h("span", { className: "dim" }, route.origin)),
    route.error && h("p", { className: "error" }, route.error),
    route.phases.map((phase) => h("div", {}, h("h3", {}, phase.phase), h("ol", { className: "chain" }, phase.plugins.map((plugin, index) => h("li", {}, keptView(route, phase, plugin, index, before.shown)))))),
    !route.phases.length && h("p", { className: "dim" }, "no plugins of the runner"));
}

/** Return the view of a plugin: the element of before if nothing has changed. */
function keptView(route, phase, plugin, index, before) {
  const place = JSON.stringify([route.id, phase.phase, index]);
  const signature = JSON.stringify(plugin);
  const old = before.get(place);
  const element = old?.signature === signature ? old.element : pluginView(route, phase, plugin, index);
  if (old && old.element !== element) element.open = old.element.open;
  shown.set(place, { signature, element });
  return element;
}

function pluginView(route, phase, plugin, index) {
  const parsed = parse(plugin.value);
  const problems = h("p", { className: "error", role: "status" });
  const save = h("button", { type: "submit", className: "primary", disabled: true }, "Apply");
  let value = plugin.value;
  let timer = 0;
  const validate = async () => {
    const checked = value;
    try {
      const found = await call("POST", "validate", { plugin: plugin.name, phase: phase.phase, value });
      if (checked !== value) return; // it was edited meanwhile
      problems.textContent = found.problems.join("; ");
      save.disabled = found.problems.length > 0;
    } catch (error) {
      problems.textContent = error.message;
    }
  };
  const changed = (next) => {
    value = typeof next === "string" ? next : JSON.stringify(next ?? {});
    save.disabled = true;
    clearTimeout(timer);
    timer = setTimeout(validate, VALIDATE_AFTER_MS);
  };
  const submit = async (event) => {
    event.preventDefault();
    try {
      await call("PUT", `routes/${encodeURIComponent(route.id)}/${phase.phase}/${index}`, { value });
      toast(`${plugin.name} of route ${route.id} has the new configuration.`);
    } catch (error) {
      problems.textContent = error.message;
    }
  };
  const form = new SchemaForm(plugin.schema ?? {}, parsed, changed);
  return h("details", { className: "plugin" },
    h("summary", {}, h("b", {}, plugin.name), " ", h("code", { className: "value" }, plugin.value || "no configuration")),
    plugin.problem && h("p", { className: "error" }, plugin.problem),
    h("form", { onsubmit: submit }, form.element, problems, h("div", { className: "actions" }, save)),
    h("details", {}, h("summary", {}, "JSON Schema"), h("pre", {}, JSON.stringify(plugin.schema ?? {}, null, 2))));
}

function parse(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
