// SPDX-License-Identifier: Apache-2.0
// Differences between two texts or two lists of headers, side by side.

import { h } from "./dom.js";

const MAX_LINES = 2000;

/**
 * Return the differences of two lists of lines as rows [kind, before, after]; kind is "same", "changed", "added" or "removed".
 * The longest common subsequence of what is between the common beginning and the common end.
 */
export function lineDiff(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < before.length - start && end < after.length - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const a = before.slice(start, before.length - end);
  const b = after.slice(start, after.length - end);
  const middle = a.length * b.length > MAX_LINES * MAX_LINES ? wholly(a, b) : subsequence(a, b);
  const same = (line) => ["same", line, line];
  return [...before.slice(0, start).map(same), ...paired(middle), ...before.slice(before.length - end).map(same)];
}

const wholly = (a, b) => [...a.map((line) => ["removed", line, null]), ...b.map((line) => ["added", null, line])];

function subsequence(a, b) {
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const rows = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) rows.push(["same", a[i++], b[j++]]);
    else if (j >= b.length || (i < a.length && lengths[i + 1][j] >= lengths[i][j + 1])) rows.push(["removed", a[i++], null]);
    else rows.push(["added", null, b[j++]]);
  }
  return rows;
}

/** Join a block of removed lines and the block of added lines after it into changed ones. */
function paired(rows) {
  const result = [];
  let position = 0;
  while (position < rows.length) {
    const removed = [], added = [];
    while (rows[position]?.[0] === "removed") removed.push(rows[position++][1]);
    while (rows[position]?.[0] === "added") added.push(rows[position++][2]);
    for (let n = 0; n < Math.max(removed.length, added.length); n++) {
      if (n < removed.length && n < added.length) result.push(["changed", removed[n], added[n]]);
      else if (n < removed.length) result.push(["removed", removed[n], null]);
      else result.push(["added", null, added[n]]);
    }
    if (position < rows.length && rows[position][0] === "same") result.push(rows[position++]);
  }
  return result;
}

/** Return the rows that differ, with `context` rows before and after them. A row [kind, before, after] of the kind "left-out" replaces others. */
export function changesOnly(rows, context) {
  const isNear = (position) => rows.slice(Math.max(0, position - context), position + context + 1).some(([kind]) => kind !== "same");
  const result = [];
  let leftOut = 0;
  const note = () => { if (leftOut) result.push(["left-out", `${leftOut} equal ${leftOut === 1 ? "line" : "lines"}`, ""]); leftOut = 0; };
  rows.forEach((row, position) => {
    if (!isNear(position)) { leftOut++; return; }
    note();
    result.push(row);
  });
  note();
  return result;
}

/** Return a table that shows rows of `lineDiff`. Args: names: the titles of the two columns. */
export function diffTable(rows, names = ["before", "after"]) {
  const cell = (text, kind) => h("td", { className: text === null ? "" : kind }, text ?? "");
  return h("table", { className: "diff" },
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([kind, before, after]) => h("tr", { className: kind }, cell(before, "before"), cell(after, "after")))));
}

/** Return the differences of two lists of [name, value] as rows of `lineDiff`, sorted by name. Only values of one name are on one row. */
export function headerDiff(before, after) {
  const [old, now] = [valuesByName(before), valuesByName(after)];
  const names = [...new Set([...old.keys(), ...now.keys()])].sort();
  return names.flatMap((name) => {
    const lines = (values) => (values.get(name) ?? []).map((value) => `${name}: ${value}`);
    return lineDiff(lines(old), lines(now));
  });
}

function valuesByName(pairs) {
  const values = new Map();
  for (const [name, value] of pairs) {
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  return values;
}
