// SPDX-License-Identifier: Apache-2.0
// The calls of the inspector's API, and its events.

/** Call the API and return the JSON of the answer. Throws an Error with the server's message. */
export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(`/api/${path}`, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

/**
 * Listen to the events of the server. The browser connects again by itself.
 *
 * @param handlers functions by the names of events. `open` and `lost` are called when the connection is made and lost.
 */
export function listen({ open, lost, ...handlers }) {
  const source = new EventSource("/api/events");
  source.onopen = open;
  source.onerror = lost;
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
}
