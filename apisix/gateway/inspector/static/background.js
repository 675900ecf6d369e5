// SPDX-License-Identifier: Apache-2.0
// The background tasks of plugins: their states, how often they have failed, and when they are started again.

import { call } from "./api.js";
import { clock, h } from "./dom.js";

const STATES = { running: "running", failed: "failed", returned: "returned, and not started again", waiting: "waits, because another worker runs it" };

/** The view of all tasks. It is hidden while there are none. */
export const backgroundView = h("details", { className: "section background", open: true, hidden: true }, h("summary", {}, "Background tasks"), h("ul", { className: "chain" }));

/** Load the tasks, show and return them. */
export async function loadBackground() {
  const tasks = await call("GET", "background");
  showBackground(tasks);
  return tasks;
}

/** Show tasks. Tracebacks that are open stay open. */
export function showBackground(tasks) {
  const open = new Set([...backgroundView.querySelectorAll("li:has(details[open])")].map((item) => item.dataset.task));
  backgroundView.hidden = !tasks.length;
  backgroundView.querySelector("ul").replaceChildren(...tasks.map((task) => taskView(task, open.has(task.task))));
}

function taskView(task, isOpen) {
  const bad = task.state === "failed";
  return h("li", { dataset: { task: task.task } },
    h("b", {}, task.plugin), " ", h("code", {}, task.route ?? "no route"), " ",
    h("span", { className: bad ? "badge failed" : "badge" }, STATES[task.state] ?? task.state), " ",
    h("span", { className: "dim" }, [
      `since ${clock(task.since)}`, `started ${times(task.starts ?? 0)}`, `failed ${times(task.failures ?? 0)}`,
      task.next_start && `starts again at ${clock(task.next_start)}`,
    ].filter(Boolean).join(" · ")),
    task.error && h("details", { open: isOpen }, h("summary", {}, bad ? "traceback" : "traceback of the last failure"), h("pre", { tabIndex: 0 }, task.error)));
}

const times = (count) => (count === 1 ? "once" : `${count} times`);

/** Return a message about a task that has just failed, null if none has. `before` and `after` are lists of tasks. */
export function failureText(before, after) {
  const failed = after.find((task) => task.state === "failed" && (before.find((old) => old.task === task.task)?.failures ?? 0) < task.failures);
  if (!failed) return null;
  const reason = failed.error?.trim().split("\n").at(-1);
  return `The background task of ${failed.plugin} failed${reason ? `: ${reason}` : ""}. It starts again at ${clock(failed.next_start)}.`;
}
