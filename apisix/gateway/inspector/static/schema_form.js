// SPDX-License-Identifier: Apache-2.0
// A form for a plugin's configuration, made from its JSON Schema. What a form cannot express is edited as JSON.

import { h } from "./dom.js";

/** Return a schema without references to `$defs`, and without the null of an optional value. */
function resolved(schema, root) {
  if (schema.$ref) return resolved(root.$defs?.[schema.$ref.split("/").at(-1)] ?? {}, root);
  const options = schema.anyOf?.filter((part) => part.type !== "null");
  if (options?.length === 1) return { ...resolved(options[0], root), isOptional: options.length < schema.anyOf.length, default: schema.default };
  return schema;
}

/**
 * A form.
 *
 * @param schema the JSON Schema of the configuration, {} if anything is allowed.
 * @param value the configuration, parsed if it is JSON.
 * @param onChange called with the value after each edit.
 */
export class SchemaForm {
  constructor(schema, value, onChange) {
    this.root = schema;
    this.value = value;
    this.onChange = onChange;
    const top = resolved(schema, schema);
    this.element = h("div", { className: "schema-form" }, this.field(top, value, (changed) => { this.value = changed; this.onChange(changed); }));
  }

  field(schema, value, set, label = "") {
    if (schema.type === "object" && schema.properties) return this.object(schema, value, set, label);
    if (schema.enum || schema.const !== undefined) return this.choice(schema, value, set, label);
    if (schema.type === "boolean") return this.input({ type: "checkbox", checked: value ?? schema.default ?? false }, label, schema, (input) => set(input.checked));
    if (schema.type === "integer" || schema.type === "number") {
      const bounds = { min: schema.minimum, max: schema.maximum, step: schema.type === "integer" ? 1 : "any" };
      return this.input({ type: "number", value: value ?? "", placeholder: schema.default ?? "", ...bounds }, label, schema, (input) => set(input.value === "" ? undefined : Number(input.value)));
    }
    if (schema.type === "string") {
      const type = schema.writeOnly || schema.secret || schema.format === "password" ? "password" : "text";
      return this.input({ type, value: value ?? "", placeholder: schema.default ?? "", pattern: schema.pattern, autocomplete: "off" }, label, schema, (input) => set(input.value === "" && value === undefined ? undefined : input.value));
    }
    return this.json(value, set, label, schema);
  }

  object(schema, value, set, label) {
    const current = typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
    const required = new Set(schema.required ?? []);
    return h("fieldset", {}, label && h("legend", {}, label), schema.description && h("p", { className: "dim" }, schema.description),
      Object.entries(schema.properties).map(([name, part]) => {
        const found = resolved(part, this.root);
        const change = (changed) => {
          if (changed === undefined) delete current[name];
          else current[name] = changed;
          set({ ...current });
        };
        return this.field({ ...found, description: found.description ?? part.description, default: part.default ?? found.default }, current[name], change, required.has(name) ? `${name} *` : name);
      }));
  }

  choice(schema, value, set, label) {
    const values = schema.enum ?? [schema.const];
    const select = h("select", { onchange: () => set(select.value === "" ? undefined : JSON.parse(select.value)) },
      h("option", { value: "" }, `default${schema.default === undefined ? "" : ` (${schema.default})`}`), values.map((option) => h("option", { value: JSON.stringify(option), selected: option === value }, String(option))));
    return h("label", {}, label, select, schema.description && h("small", { className: "dim" }, schema.description));
  }

  input(properties, label, schema, change) {
    const input = h("input", { ...properties, oninput: () => change(input) });
    return h("label", { className: properties.type }, label, input, schema.description && h("small", { className: "dim" }, schema.description));
  }

  json(value, set, label, schema) {
    const text = h("textarea", { rows: 4, spellcheck: false, value: value === undefined ? "" : JSON.stringify(value, null, 2) });
    text.addEventListener("input", () => {
      try {
        set(text.value.trim() === "" ? undefined : JSON.parse(text.value));
        text.setCustomValidity("");
      } catch (error) {
        text.setCustomValidity(error.message);
      }
      text.reportValidity();
    });
    return h("label", {}, `${label} (JSON)`, text, schema.description && h("small", { className: "dim" }, schema.description));
  }
}
