// SPDX-License-Identifier: Apache-2.0
// The plugins that can't be loaded, above every view until they are corrected.

import { call } from "./api.js";
import { byId, h } from "./dom.js";

export const loadErrors = async () => showLoadErrors(await call("GET", "load-errors"));

export function showLoadErrors(errors) {
  byId("load-errors").hidden = !errors.length;
  byId("load-errors").replaceChildren(
    h("strong", {}, errors.length === 1 ? "A plugin can't be loaded:" : `${errors.length} plugins can't be loaded:`),
    ...errors.map(({ file, line, message }) => h("p", {}, h("code", {}, line ? `${file}:${line}` : file), " ", message)));
}
